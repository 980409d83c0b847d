package certs

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// parseJSON is JSON.parse of the UTF-8 text b, decoded as Node's Buffer and the WHATWG decoder do:
// each maximal subpart of an ill-formed sequence becomes one U+FFFD. The caller bounds len(b).
// Objects and arrays nest at most maxDepth deep. An error is a *syntaxError.
func parseJSON(b []byte) (any, error) {
	p := parser{in: b}
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	p.space()
	if p.pos < len(p.in) {
		return nil, p.fail("more than one value")
	}
	return v, nil
}

type parser struct {
	in  []byte
	pos int
}

func (p *parser) fail(problem string) error { return &syntaxError{Offset: p.pos, Problem: problem} }

func (p *parser) space() {
	for p.pos < len(p.in) {
		switch p.in[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// peek returns the next byte, or 0 at the end. A zero byte is legal nowhere outside, nor inside, a
// string.
func (p *parser) peek() byte {
	if p.pos < len(p.in) {
		return p.in[p.pos]
	}
	return 0
}

// accept passes over white space and then c, if it comes next.
func (p *parser) accept(c byte) bool {
	p.space()
	if p.peek() != c {
		return false
	}
	p.pos++
	return true
}

func (p *parser) value(depth int) (any, error) {
	p.space()
	switch c := p.peek(); {
	case c == '{':
		return p.object(depth + 1)
	case c == '[':
		return p.array(depth + 1)
	case c == '"':
		return p.string()
	case c == '-' || isDigit(c):
		return p.number()
	case c == 't':
		return true, p.literal("true")
	case c == 'f':
		return false, p.literal("false")
	case c == 'n':
		return nil, p.literal("null")
	}
	return nil, p.fail("no value")
}

func (p *parser) literal(word string) error {
	if !bytes.HasPrefix(p.in[p.pos:], []byte(word)) {
		return p.fail("no value")
	}
	p.pos += len(word)
	return nil
}

func (p *parser) object(depth int) (any, error) {
	if depth > maxDepth {
		return nil, p.fail("nested too deeply")
	}
	p.pos++
	o := &object{}
	if p.accept('}') {
		return o, nil
	}
	for {
		p.space()
		if p.peek() != '"' {
			return nil, p.fail("no key")
		}
		key, err := p.string()
		if err != nil {
			return nil, err
		}
		if !p.accept(':') {
			return nil, p.fail("no colon")
		}
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		o.set(key, v)
		if p.accept('}') {
			return o, nil
		}
		if !p.accept(',') {
			return nil, p.fail("no comma")
		}
	}
}

func (p *parser) array(depth int) (any, error) {
	if depth > maxDepth {
		return nil, p.fail("nested too deeply")
	}
	p.pos++
	a := []any{}
	if p.accept(']') {
		return a, nil
	}
	for {
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
		if p.accept(']') {
			return a, nil
		}
		if !p.accept(',') {
			return nil, p.fail("no comma")
		}
	}
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func (p *parser) digits() bool {
	start := p.pos
	for isDigit(p.peek()) {
		p.pos++
	}
	return p.pos > start
}

func (p *parser) number() (any, error) {
	start := p.pos
	if p.peek() == '-' {
		p.pos++
	}
	if p.peek() == '0' {
		p.pos++
	} else if !p.digits() {
		return nil, p.fail("no digit")
	}
	if p.peek() == '.' {
		p.pos++
		if !p.digits() {
			return nil, p.fail("no digit")
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.pos++
		if c := p.peek(); c == '+' || c == '-' {
			p.pos++
		}
		if !p.digits() {
			return nil, p.fail("no digit")
		}
	}
	// The grammar is checked, so that the one error left is the range, where the result is an
	// infinity, as in JavaScript.
	f, _ := strconv.ParseFloat(string(p.in[start:p.pos]), 64)
	return f, nil
}

func (p *parser) string() (string, error) {
	p.pos++
	var s []byte
	for p.pos < len(p.in) {
		switch c := p.in[p.pos]; {
		case c == '"':
			p.pos++
			return string(s), nil
		case c == '\\':
			var err error
			if s, err = p.escape(s); err != nil {
				return "", err
			}
		case c < 0x20:
			return "", p.fail("control character in a string")
		case c < utf8.RuneSelf:
			s = append(s, c)
			p.pos++
		default:
			n, ok := sequence(p.in[p.pos:])
			if ok {
				s = append(s, p.in[p.pos:p.pos+n]...)
			} else {
				s = utf8.AppendRune(s, utf8.RuneError)
			}
			p.pos += n
		}
	}
	return "", p.fail("string without end")
}

func (p *parser) escape(s []byte) ([]byte, error) {
	p.pos++
	c := p.peek()
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		return p.unicodeEscape(s)
	default:
		return nil, p.fail("unknown escape")
	}
	p.pos++
	return append(s, c), nil
}

// unicodeEscape reads uXXXX, and joins a high surrogate with a low one that is escaped right after
// it.
func (p *parser) unicodeEscape(s []byte) ([]byte, error) {
	u, ok := hex4(p.in[p.pos+1:])
	if !ok {
		return nil, p.fail("bad \\u escape")
	}
	p.pos += 5
	if !utf16.IsSurrogate(rune(u)) {
		return utf8.AppendRune(s, rune(u)), nil
	}
	if rest := p.in[p.pos:]; len(rest) >= 2 && rest[0] == '\\' && rest[1] == 'u' {
		if low, ok := hex4(rest[2:]); ok {
			if r := utf16.DecodeRune(rune(u), rune(low)); r != utf8.RuneError {
				p.pos += 6
				return utf8.AppendRune(s, r), nil
			}
		}
	}
	return appendLoneSurrogate(s, u), nil
}

func hex4(b []byte) (uint16, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var u uint16
	for _, c := range b[:4] {
		switch {
		case isDigit(c):
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		u = u<<4 | uint16(c)
	}
	return u, true
}

// sequence measures the UTF-8 sequence that b begins with: its length if it is well-formed
// (Unicode, table 3-7), or else the length of the maximal subpart, at least 1, which one U+FFFD
// replaces.
func sequence(b []byte) (n int, ok bool) {
	lo, hi := byte(0x80), byte(0xBF)
	more := 0
	switch c := b[0]; {
	case c >= 0xC2 && c <= 0xDF:
		more = 1
	case c >= 0xE0 && c <= 0xEF:
		more = 2
		if c == 0xE0 {
			lo = 0xA0
		} else if c == 0xED {
			hi = 0x9F
		}
	case c >= 0xF0 && c <= 0xF4:
		more = 3
		if c == 0xF0 {
			lo = 0x90
		} else if c == 0xF4 {
			hi = 0x8F
		}
	default:
		return 1, false
	}
	for i := 1; i <= more; i++ {
		if i >= len(b) || b[i] < lo || b[i] > hi {
			return i, false
		}
		lo, hi = 0x80, 0xBF
	}
	return more + 1, true
}
