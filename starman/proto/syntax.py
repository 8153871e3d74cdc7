"""The grammar of RFC 9110, 9112 and 3986 as regular expressions, each beside its ABNF.

Each expression takes linear time: no repetition contains another one that can match the same bytes.
"""

from __future__ import annotations

import re
from typing import Final

# RFC 9110 §5.6.2    token = 1*tchar
#                    tchar = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" / "`" / "|" / "~"
#                            / ALPHANUM
_TCHAR: Final = rb"!#$%&'*+.^_`|~0-9A-Za-z-"

# RFC 9110 §5.6.4    quoted-string = DQUOTE *( qdtext / quoted-pair ) DQUOTE
_QUOTED: Final = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'

# RFC 9112 §5        field-line = field-name ":" OWS field-value OWS       (trailers; httptools reads the others)
# RFC 9110 §5.5      field-value = *( VCHAR / obs-text / SP / HTAB )  (the caller trims it; here: quadratic)
FIELD_LINE: Final = re.compile(rb"([%b]+):([\t\x20-\x7e\x80-\xff]*)" % _TCHAR)

# The beginning of a trailer field line that is still incomplete.
INCOMPLETE_FIELD_LINE: Final = re.compile(rb"(?:[%b]+(?::[\t\x20-\x7e\x80-\xff]*\r?)?|\r)?" % _TCHAR)

# RFC 9112 §6.2      Content-Length = 1*DIGIT
CONTENT_LENGTH: Final = re.compile(rb"[0-9]+")

# RFC 9112 §7        transfer-coding = token *( OWS ";" OWS token BWS "=" BWS ( token / quoted-string ) )
TRANSFER_CODING: Final = re.compile(rb"[%b]+(?:[\t ]*;[\t ]*[%b]+[\t ]*=[\t ]*(?:[%b]+|%b))*" % (_TCHAR, _TCHAR, _TCHAR, _QUOTED))

# RFC 3986 §3.3 and §3.4 require that paths and queries percent-encode " < > [ ] \ ^ ` { | } and "%" itself. Clients
# send them unencoded all the same: browsers (WHATWG URL Standard, "percent-encode sets"), curl, urllib and httpx. So
# does nginx where proxy_pass has a path: it decodes "%5B" and does not encode it again. Framing does not depend on
# these bytes. So a target may have every printable ASCII byte except space, which ends it, and "#", which begins a
# fragment. A "%" without two hexadecimal digits after it is left unchanged.
_PATH: Final = rb"[\x21\x22\x24-\x3e\x40-\x7e]*"  # without "?"
_QUERY: Final = rb"[\x21\x22\x24-\x7e]*"

# RFC 9112 §3        request-line = method SP request-target SP HTTP-version         (in origin-form)
# RFC 9112 §3.2.1    origin-form = absolute-path [ "?" query ]
ORIGIN_REQUEST_LINE: Final = re.compile(rb"([%b]+) ((/%b)(?:\?(%b))?) (HTTP/1\.([0-9]))(?=\r\n)" % (_TCHAR, _PATH, _QUERY))

# RFC 9112 §3        the same with any target, for the other forms and for error messages
ANY_REQUEST_LINE: Final = re.compile(rb"([%b]+) ([\x21-\x7e]+) (HTTP/([0-9])\.([0-9]))" % _TCHAR)

# The beginning of a request line that is still incomplete.
INCOMPLETE_REQUEST_LINE: Final = re.compile(
    rb"[%b]+(?: (?:[\x21-\x7e]+(?: (?:H(?:T(?:T(?:P(?:/(?:[0-9](?:\.(?:[0-9]\r?)?)?)?)?)?)?)?)?)?)?)?" % _TCHAR
)

# RFC 3986 §3.2.2    host = IP-literal / IPv4address / reg-name
#                    reg-name = *( unreserved / pct-encoded / sub-delims )
# RFC 9110 §7.2      Host = uri-host [ ":" port ]        (not empty; a caller that allows an empty one checks it)
# RFC 3986 §3.2.3    port = *DIGIT                       (at most 65535)
_H16: Final = rb"[0-9A-Fa-f]{1,4}"
_V4: Final = rb"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_LS32: Final = rb"(?:%b:%b|%b)" % (_H16, _H16, _V4)
_V6: Final = rb"(?:%b)" % b"|".join(
    [
        rb"(?:%b:){6}%b" % (_H16, _LS32),
        rb"::(?:%b:){5}%b" % (_H16, _LS32),
        rb"(?:%b)?::(?:%b:){4}%b" % (_H16, _H16, _LS32),
        rb"(?:(?:%b:){0,1}%b)?::(?:%b:){3}%b" % (_H16, _H16, _H16, _LS32),
        rb"(?:(?:%b:){0,2}%b)?::(?:%b:){2}%b" % (_H16, _H16, _H16, _LS32),
        rb"(?:(?:%b:){0,3}%b)?::%b:%b" % (_H16, _H16, _H16, _LS32),
        rb"(?:(?:%b:){0,4}%b)?::%b" % (_H16, _H16, _LS32),
        rb"(?:(?:%b:){0,5}%b)?::%b" % (_H16, _H16, _H16),
        rb"(?:(?:%b:){0,6}%b)?::" % (_H16, _H16),
    ]
)
_V_FUTURE: Final = rb"[vV][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+"
_REG_NAME_CHAR: Final = rb"A-Za-z0-9._~!$&'()*+,;=-"
_REG_NAME: Final = rb"(?=[%%%b])[%b]*(?:%%[0-9A-Fa-f]{2}[%b]*)*" % (_REG_NAME_CHAR, _REG_NAME_CHAR, _REG_NAME_CHAR)
_PORT: Final = rb"0*(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})?"
_HOST: Final = rb"(?:\[(?:%b|%b)\]|%b)(?::%b)?" % (_V6, _V_FUTURE, _REG_NAME, _PORT)
HOST: Final = re.compile(_HOST)

# RFC 9112 §3.2.2    absolute-form = absolute-URI           ("http" and "https" only; RFC 9110 §4.2.4: no userinfo)
ABSOLUTE_TARGET: Final = re.compile(rb"[hH][tT][tT][pP][sS]?://(%b)((?:/%b)?)(?:\?(%b))?" % (_HOST, _PATH, _QUERY))

# RFC 7239 §4        Forwarded = 1#forwarded-element
#                    forwarded-element = [ forwarded-pair ] *( ";" [ forwarded-pair ] )
#                    forwarded-pair = token "=" ( token / quoted-string )
# One pair or none, and what follows it: ";", "," or the end. White space around them is accepted. It is matched
# possessively, because two repetitions of it are adjacent where the pair is missing.
FORWARDED_PAIR: Final = re.compile(rb"[\t ]*+(?:([%b]+)=([%b]+|%b))?[\t ]*+([;,]|\Z)" % (_TCHAR, _TCHAR, _QUOTED))

# RFC 9112 §7.1      chunk-size = 1*HEXDIG                             (16 digits at most: 2^64 - 1)
# RFC 9112 §7.1.1    chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
#                    chunk-ext-val = token / quoted-string
CHUNK_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})((?:[\t ]*;[\t ]*[%b]+(?:[\t ]*=[\t ]*(?:[%b]+|%b))?)*)" % (_TCHAR, _TCHAR, _QUOTED)
)

# A chunk line with a size only, and its CRLF, as nearly all are.
PLAIN_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")

# The beginning of a chunk line that is still incomplete.
INCOMPLETE_CHUNK_LINE: Final = re.compile(rb"(?:[0-9A-Fa-f]{1,16}([\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?)\r?)?")

# RFC 9110 §15       status-code = 3DIGIT, reason-phrase = 1*( HTAB / SP / VCHAR / obs-text )  (a str)
STATUS: Final = re.compile(r"([2-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
FIELD_NAME_TEXT: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


# The most members that `tokens` accepts. RFC 9110 §5.6.1.2: a recipient ignores a reasonable number of empty members,
# but not so many that they could be used for denial of service. A head has room for 60,000, which take 3 ms.
MOST_MEMBERS: Final = 100


def tokens(values: list[bytes]) -> list[bytes] | None:
    """Return the members of a comma-separated list, in lower case (RFC 9110 §5.6.1).

    `values`: one for each field line. Empty members are returned as `b""`, so that the caller can refuse them. None:
    there are more than MOST_MEMBERS.
    """
    # A single short value, the usual case, cannot have so many members, so they are not counted.
    may_be_many = len(values) != 1 or len(values[0]) >= MOST_MEMBERS
    if may_be_many and sum([value.count(b",") + 1 for value in values]) > MOST_MEMBERS:
        return None
    return [member.strip(b" \t").lower() for value in values for member in value.split(b",")]
