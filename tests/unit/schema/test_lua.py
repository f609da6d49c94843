from __future__ import annotations

import pytest
from kong_pdk.schema.lua import Pattern


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("abc", ["abc", "xabcx"], ["", "ab", "a.c"]),
        ("^abc", ["abcd"], ["xabc"]),
        ("abc$", ["xabc"], ["abcx"]),
        ("^$", [""], ["x"]),
        ("a$b", ["a$b"], ["ab"]),
        ("a^b", ["a^b"], ["ab"]),
        ("^a.c$", ["abc", "a\nc"], ["ac"]),
        ("^%d+$", ["0123"], ["", "12a", "٣"]),
        ("^%D+$", ["abc"], ["a1"]),
        ("^%a%l%u%w%s%p%x%c%g$", ["aaA1 .f\x01!"], ["1aA1 .f\x01!"]),
        ("^[%w_.-]+$", ["a_b.c-1"], ["a b", "é"]),
        ("^[^%s]+$", ["abc"], ["a c"]),
        ("^[]]$", ["]"], ["["]),
        ("^[^]]$", ["["], ["]"]),
        ("^[a-]$", ["a", "-"], ["b"]),
        ("^[a-c]-d$", ["abcd", "d"], ["abxd"]),
        ("^a*b$", ["b", "aaab"], ["aac"]),
        ("^a?b$", ["b", "ab"], ["aab"]),
        ("^a-b$", ["b", "aab"], ["ac"]),
        ("^<.->$", ["<a><b>"], ["<a"]),
        ("^%.$", ["."], ["a"]),
        ("^%%$", ["%"], ["a"]),
        ("^(.)%1$", ["aa"], ["ab"]),
        ("^(%a+)=(%a+)$", ["key=value"], ["key="]),
        ("^((a)b)%2$", ["aba"], ["abb"]),
        ("^()a()$", ["a"], ["b"]),
        ("^%b()$", ["(a(b)c)"], ["(a(b)c", "a"]),
        ("%f[%a]the%f[%A]", ["x the y", "the"], ["other", "them"]),
        ("^http[s]?://", ["http://x", "https://x"], ["ftp://x"]),
        ("é", ["café"], ["cafe"]),
        ("^%z$", ["\0"], ["0"]),
        ("^/", ["/a"], ["a/"]),
    ],
)
def test_matches(pattern, yes, no):
    compiled = Pattern(pattern)
    assert {value: compiled.matches(value) for value in yes} == dict.fromkeys(yes, True)
    assert {value: compiled.matches(value) for value in no} == dict.fromkeys(no, False)


@pytest.mark.parametrize(
    ("pattern", "error"),
    [
        ("[a", "missing ']'"),
        ("[", "missing ']'"),
        ("[^", "missing ']'"),
        ("[a%", "ends with '%'"),
        ("a%", "ends with '%'"),
        ("(a", "unfinished capture"),
        ("a)", "invalid pattern capture"),
        ("%1", "invalid capture index"),
        ("(%1)", "invalid capture index"),
        ("%b(", "missing arguments to '%b'"),
        ("%fa", "missing '[' after '%f'"),
    ],
)
def test_malformed(pattern, error):
    with pytest.raises(ValueError, match=r"capture|malformed|missing") as raised:
        Pattern(pattern)
    assert error in str(raised.value)
