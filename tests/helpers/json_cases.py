"""JSON values that RFC 8259 allows, and texts that it does not, by section."""

from __future__ import annotations

VALID = [
    # 2: whitespace is allowed around each of the six structural characters.
    *[b"[]", b"[ ]", b"[\n]", b"[\r\n\t ]", b"{}", b"{ }", b"{\t}"],
    *[b" 1", b"1 ", b"\n\r\t 1", b"[ 1 , 2 ]", b"[1\n,\n2]", b'{ "a" : 1 , "b" : 2 }'],
    b'{\r\n"a"\r\n:\r\n1\r\n}',
    # 3: three names, in lower case.
    *[b"true", b"false", b"null", b"[true,false,null]"],
    # 4: a name may be empty, have escapes, come twice.
    *[b'{"":0}', b'{"\\u0061":1}', b'{"a":1,"a":2}', b'{"a":{"a":{"a":{}}}}', b'{"\xc3\xa9":1}'],
    b'{"a":[{"b":[]},{}],"c":null}',
    # 5: values of an array may be of different types.
    *[b'[1,"a",null,[],{}]', b"[[]]", b"[[],[[]]]", b"[[[[[]]]]]", b'[""]'],
    # 6: numbers.
    *[b"0", b"-0", b"1", b"-1", b"10", b"1234567890", b"-9223372036854775809", b"9" * 400],
    *[b"0.0", b"-0.0", b"0.1", b"1.0", b"-1.50", b"0.000000000000000000001", b"1." + b"0" * 400],
    *[b"0e0", b"0E0", b"1e1", b"1E1", b"1e+1", b"1e-1", b"1E+01", b"1e00", b"-0e-0", b"1.5e300"],
    *[b"1e400", b"-1e400", b"1e-400", b"1.5E-7", b"123.456e78", b"0e+1"],
    # 7: strings; a control character needs an escape, U+007F does not.
    *[b'""', b'"a"', b'" "', b'"/"', b'"\x7f"', b'"\'"', b'"[{,:}]"', b'"12345678"', b'"1234567"'],
    *[b'"\\""', b'"\\\\"', b'"\\/"', b'"\\b"', b'"\\f"', b'"\\n"', b'"\\r"', b'"\\t"'],
    *[b'"\\u0000"', b'"\\u001f"', b'"\\u0022"', b'"\\u005C"', b'"\\uabcd"', b'"\\uABCD"'],
    *[b'"\\ufffe"', b'"\\uffff"', b'"\\ud7ff"', b'"\\ue000"', b'"\\u2028"', b'"\\\\u0061"'],
    *[b'"\\ud83d\\ude00"', b'"\\uD800\\uDC00"', b'"\\udbff\\udfff"', b'"a\\ud83d\\ude00b"'],
    *[b'"\\\\\\""', b'"\\\\\\\\"', b'"\\\\ud800"', b'"1234567\\""', b'"12345678\\\\"'],
    # 8.1: UTF-8, with the shortest and the longest of each length (RFC 3629, section 4).
    *[b'"\xc2\x80"', b'"\xdf\xbf"', b'"\xe0\xa0\x80"', b'"\xed\x9f\xbf"', b'"\xee\x80\x80"'],
    *[b'"\xef\xbf\xbf"', b'"\xef\xbb\xbf"', b'"\xf0\x90\x80\x80"', b'"\xf4\x8f\xbf\xbf"'],
    *[b'"\xe2\x80\xa8"', b'"\xe2\x82\xac"', b'"\xf0\x9f\x98\x80"', b'"1234567\xc3\xa9"'],
]

NOT_VALID = [
    # 2
    *[b"", b" ", b"\x0b1", b"\x0c1", b"\xc2\xa01", b"\xe2\x80\xa81", b"\xef\xbb\xbf1", b"\x001"],
    *[b"1 2", b"[1\x0b]", b"/**/1", b"1//", b"#1", b"[1/**/]", b"[\x00]", b"\x1f"],
    # 3
    *[b"True", b"TRUE", b"tru", b"t", b"truee", b"fals", b"f", b"nul", b"n", b"nil", b"None"],
    *[b"NULL", b"undefined", b"yes", b"a", b"*", b"_", b"true1", b"tr ue", b"false,"],
    # 4
    *[b"{", b"}", b"{,}", b'{"a"}', b'{"a":}', b'{"a" 1}', b'{"a",1}', b'{"a":1,}', b'{,"a":1}'],
    *[b'{"a":1 "b":2}', b"{a:1}", b"{'a':1}", b"{1:1}", b"{null:1}", b'{"a":1', b'{"a":', b'{"a"'],
    *[b'{"a', b'{"a":1]', b'{"a":1}}', b'{"a"::1}', b'{"a":1,,"b":2}', b'{"a":1;"b":2}', b'{"a"='],
    *[b"{[]:1}", b'{"a":1,"b"}', b'{"\\x":1}', b'{"\n":1}', b'{"\xff":1}', b'{"a" "b":1}', b'{""}'],
    # 5
    *[b"[", b"]", b"[,]", b"[1,]", b"[,1]", b"[1,,2]", b"[1 2]", b"[1;2]", b"[1:2]", b"[1", b"[1,"],
    *[
        b"[1}",
        b"[1]]",
        b"[[]",
        b"[}",
        b'["a":1]',
        b'["a"',
        b'["a',
        b"[[1]",
        b"[1]1",
        b"(1)",
        b"[[[",
    ],
    *[b'[{"a":[1}]', b'[{"a":1]}', b'{"a":[}]'],
    # 6
    *[b"-", b"+1", b"--1", b"-+1", b"01", b"-01", b"00", b"1.", b"-1.", b".1", b"-.1", b"1.e1"],
    *[b"1e", b"1E", b"1e+", b"1e-", b"1e1.5", b"1e+-1", b"e1", b"1ee1", b"1.2.3", b"1..2", b"0x1"],
    *[b"1_000", b"1,000.", b"1a", b"1f", b"NaN", b"nan", b"Infinity", b"-Infinity", b"inf", b"- 1"],
    *[b"1 .0", b"1. 0", b"1e 1", b"1 e1", b"\xd9\xa1", b"\xef\xbc\x91", b"0b1", b"1L", b"1/2"],
    # 7
    *[b'"', b'"a', b'"\\"', b'"\\', b'"a\\', b"'a'", b'"a"b"', b'"a""b"', b"`a`", b'a"'],
    *[b'"\n"', b'"\r"', b'"\t"', b'"\x00"', b'"\x1f"', b'"1234567\n"', b'"12345678\x00"'],
    *[b'"\\a"', b'"\\x41"', b'"\\0"', b'"\\\'"', b'"\\v"', b'"\\U0041"', b'"\\ "', b'"\\\n"'],
    *[b'"\\u"', b'"\\u0"', b'"\\u00"', b'"\\u004"', b'"\\u004g"', b'"\\u 041"', b'"\\u+041"'],
    *[b'"\\u00', b'"\\u0041', b'"\\\x00"', b'"\\\xc3\xa9"', b'"\\u00\xc3\xa9"', b'"\\ud83d\\u"'],
    # 8.1
    *[b'"\x80"', b'"\xbf"', b'"\xc0\x80"', b'"\xc1\xbf"', b'"\xc2"', b'"\xc2\x7f"', b'"\xc2\xc0"'],
    *[b'"\xe0\x80\x80"', b'"\xe0\x9f\xbf"', b'"\xe2\x82"', b'"\xe2"', b'"\xe2\x28\xa1"'],
    *[b'"\xed\xa0\x80"', b'"\xed\xbf\xbf"', b'"\xed\xa0\xbd\xed\xb8\x80"', b'"\xf0\x80\x80\x80"'],
    *[b'"\xf0\x8f\xbf\xbf"', b'"\xf4\x90\x80\x80"', b'"\xf5\x80\x80\x80"', b'"\xf8\x88\x80\x80"'],
    *[b'"\xfe"', b'"\xff"', b'"\xf0\x9f\x98"', b'"\xf0\x9f"', b'"\xf0"', b'"\xf0\x9f\x98a"'],
    *[b"\xff", b"[\xff]", b'"\xe2\x82', b'"\xf0\x9f\x98\x80', b'"1234567\x80"'],
]

# Section 8.2 calls what readers make of these unpredictable.
LONE_SURROGATES = [
    *[b'"\\ud800"', b'"\\udbff"', b'"\\udc00"', b'"\\udfff"', b'"\\uD83D"', b'"\\ud83d\\n"'],
    *[b'"\\ud83d\\ud83d"', b'"\\ude00\\ud83d"', b'"\\ud83dx\\ude00"', b'"\\ud83d\\\\ude00"'],
    *[b'"\\ud83d\\u0041"', b'"\\ud83d\\ue000"', b'"\\ud83d\\udbff"', b'"\\\\\\ud800"'],
    *[b'{"\\ud800":1}', b'["\\ud83d\\ude00\\ude00"]'],
]
