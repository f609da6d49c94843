module kong-python/benchmarks/go

go 1.18

require github.com/Kong/go-pdk v0.11.0
