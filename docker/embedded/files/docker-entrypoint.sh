#!/usr/bin/env bash
# Starts the embedded gateway as the official image starts Kong: values from files, a prepared prefix without sockets
# of an earlier run, logs on stdout and stderr, and the gateway in the foreground.
set -Eeo pipefail

# The names of Kong's options, one a line; a variable of another name has no _FILE form.
readonly KONG_OPTIONS=/usr/local/share/kong-embedded/options.txt

# usage: file_env KONG_X
# Sets KONG_X from the file that KONG_X_FILE names. It is an error to set both.
file_env() {
    local variable=$1 file_variable=$1_FILE
    [[ -n ${!file_variable:-} ]] || return 0
    if [[ -n ${!variable:-} ]]; then
        echo "Error: both $variable and $file_variable are set; unset one of them" >&2
        exit 1
    fi
    if [[ ! -r ${!file_variable} ]]; then
        echo "$file_variable: ${!file_variable}: no such file, or it cannot be read; $variable stays unset" >&2
        return 0
    fi
    export "$variable=$(<"${!file_variable}")"
    unset "$file_variable"
}

# Loops over the variables that exist: a loop over all options would take a hundred times as long.
file_env_of_all_options() {
    local file_variable option
    while IFS= read -r file_variable; do
        option=${file_variable#KONG_}
        option=${option%_FILE}
        option=${option,,}
        if [[ $option == password ]] || grep -qxF "$option" "$KONG_OPTIONS"; then
            file_env "KONG_${option^^}"
        fi
    done < <(compgen -e | grep -E '^KONG_[A-Z0-9_]+_FILE$' || true)
}

# A socket of an earlier run keeps nginx from binding to its path. All are deleted: their owners are unknown.
delete_sockets() {
    local path warned=''
    for path in "$KONG_PREFIX"/* "$KONG_PREFIX"/sockets/*; do
        [[ -S $path ]] || continue
        [[ -n $warned ]] ||
            echo "WARN: found dangling unix sockets in the prefix directory ($KONG_PREFIX); deleting them" >&2
        warned=yes
        rm -f "$path"
    done
}

link_logs() {
    ln -sfn /dev/stdout "$KONG_PREFIX/logs/access.log"
    ln -sfn /dev/stdout "$KONG_PREFIX/logs/admin_access.log"
    ln -sfn /dev/stderr "$KONG_PREFIX/logs/error.log"
}

main() {
    export KONG_NGINX_DAEMON=${KONG_NGINX_DAEMON:-off}
    [[ $1 == kong ]] || exec "$@"
    file_env_of_all_options
    [[ ${2:-} == docker-start ]] || exec "$@"

    export KONG_PREFIX=${KONG_PREFIX:-/usr/local/kong}
    shift 2
    kong prepare -p "$KONG_PREFIX" "$@"
    delete_sockets
    link_logs
    exec kong-embedded-gateway -p "$KONG_PREFIX"
}

main "$@"
