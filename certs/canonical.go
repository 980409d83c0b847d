package certs

import (
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// A certificate's signature is over JSON.stringify(JSON.parse(text).desc) as JavaScript does it
// (ECMA-262, sections 25.5.1, 25.5.2, 6.1.6.1.20 and 10.1.11.1). This file is those two functions,
// for a text in UTF-8.
//
// A value is nil, a bool, a float64, a string, a []any or an *object. JavaScript's strings are
// sequences of UTF-16 code units, in which surrogates may be unpaired. Here they are WTF-8: UTF-8
// in which an unpaired surrogate is the three bytes that UTF-8 would give its code point, which no
// valid UTF-8 contains. A surrogate pair is always one code point of four bytes.

// object is a JavaScript object: its own keys in the order in which they were first set, and their
// values.
type object struct {
	keys   []string
	values map[string]any
}

func (o *object) set(key string, v any) {
	if o.values == nil {
		o.values = make(map[string]any)
	}
	if _, ok := o.values[key]; !ok {
		o.keys = append(o.keys, key)
	}
	o.values[key] = v
}

// get returns nil for a key that is absent, as for null.
func (o *object) get(key string) any { return o.values[key] }

// ownKeys returns the keys as JavaScript enumerates them: array indices ascending, then the others
// as they came.
func (o *object) ownKeys() []string {
	var indices []uint64
	for _, k := range o.keys {
		if i, ok := arrayIndex(k); ok {
			indices = append(indices, i)
		}
	}
	if len(indices) == 0 {
		return o.keys
	}
	slices.Sort(indices)
	keys := make([]string, 0, len(o.keys))
	for _, i := range indices {
		keys = append(keys, strconv.FormatUint(i, 10))
	}
	for _, k := range o.keys {
		if _, ok := arrayIndex(k); !ok {
			keys = append(keys, k)
		}
	}
	return keys
}

// arrayIndex reports whether key is a canonical decimal from 0 to 2^32-2.
func arrayIndex(key string) (uint64, bool) {
	if key == "" || len(key) > len("4294967294") || key[0] < '0' || key[0] > '9' ||
		key[0] == '0' && key != "0" {
		return 0, false
	}
	i, err := strconv.ParseUint(key, 10, 64)
	return i, err == nil && i < math.MaxUint32
}

// appendJSON appends v as JSON.stringify prints it.
func appendJSON(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case float64:
		return appendNumber(dst, v)
	case string:
		return appendString(dst, v)
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, e)
		}
		return append(dst, ']')
	case *object:
		dst = append(dst, '{')
		for i, k := range v.ownKeys() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendString(dst, k)
			dst = append(dst, ':')
			dst = appendJSON(dst, v.get(k))
		}
		return append(dst, '}')
	}
	panic("certs: a value of no JSON type")
}

// appendNumber prints as Number::toString does; JSON.stringify makes null of what is not finite.
func appendNumber(dst []byte, f float64) []byte {
	switch abs := math.Abs(f); {
	case math.IsInf(f, 0) || math.IsNaN(f):
		return append(dst, "null"...)
	case f == 0:
		return append(dst, '0') // of -0 too
	case abs >= 1e-6 && abs < 1e21:
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	default:
		dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
		// Go pads the exponent to two digits, JavaScript does not.
		if n := len(dst); dst[n-2] == '0' && (dst[n-3] == '+' || dst[n-3] == '-') {
			dst[n-2] = dst[n-1]
			dst = dst[:n-1]
		}
		return dst
	}
}

const hexDigits = "0123456789abcdef"

// appendString prints as QuoteJSONString does: only the quote, the backslash, controls below U+0020
// and unpaired surrogates are escaped.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			if u, ok := loneSurrogate(s[i:]); ok {
				dst = appendUnicodeEscape(dst, u)
				i += 3
				continue
			}
			_, n := utf8.DecodeRuneInString(s[i:])
			dst = append(dst, s[i:i+n]...)
			i += n
			continue
		}
		i++
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= 0x20:
			dst = append(dst, c)
		case c == '\b':
			dst = append(dst, '\\', 'b')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\f':
			dst = append(dst, '\\', 'f')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = appendUnicodeEscape(dst, uint16(c))
		}
	}
	return append(dst, '"')
}

func appendUnicodeEscape(dst []byte, u uint16) []byte {
	return append(dst, '\\', 'u', hexDigits[u>>12], hexDigits[u>>8&0xf], hexDigits[u>>4&0xf],
		hexDigits[u&0xf])
}

// loneSurrogate reads the three bytes of an unpaired surrogate.
func loneSurrogate(s string) (uint16, bool) {
	if len(s) < 3 || s[0] != 0xED || s[1] < 0xA0 || s[1] > 0xBF || s[2] < 0x80 || s[2] > 0xBF {
		return 0, false
	}
	return 0xD000 | uint16(s[1]&0x3F)<<6 | uint16(s[2]&0x3F), true
}

func appendLoneSurrogate(dst []byte, u uint16) []byte {
	return append(dst, 0xE0|byte(u>>12), 0x80|byte(u>>6&0x3F), 0x80|byte(u&0x3F))
}
