package certs

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// canonical is JSON.stringify(JSON.parse(doc)).
func canonical(doc []byte) ([]byte, error) {
	v, err := parseJSON(doc)
	if err != nil {
		return nil, err
	}
	return appendJSON(nil, v), nil
}

// literalDocuments have literal JavaScript results, so that the table shows the rules.
var literalDocuments = []struct{ in, want string }{
	{` { "b" : 1 , "a" : [ true , false , null ] } `, `{"b":1,"a":[true,false,null]}`},
	{`{"a":1,"b":2,"a":3}`, `{"a":3,"b":2}`},
	{`{"b":1,"10":2,"9":3,"a":4,"01":5,"-1":6,"1.0":7,"0":8,"1e3":9}`,
		`{"0":8,"9":3,"10":2,"b":1,"a":4,"01":5,"-1":6,"1.0":7,"1e3":9}`},
	{`{"4294967295":1,"4294967294":2,"4294967296":3,"18446744073709551616":4,"x":5,"7":6}`,
		`{"7":6,"4294967294":2,"4294967295":1,"4294967296":3,"18446744073709551616":4,"x":5}`},
	{`{"5":1,"x":2,"5":3}`, `{"5":3,"x":2}`},
	{`{"":1,"__proto__":{"a":1},"constructor":2,"toJSON":3}`,
		`{"":1,"__proto__":{"a":1},"constructor":2,"toJSON":3}`},
	{`{"__proto__":1,"a":2,"__proto__":3}`, `{"__proto__":3,"a":2}`},
	{`[0,-0,-0.0,0e9,1.0,1e0,100e-2,1E+2]`, `[0,0,0,0,1,1,1,100]`},
	{`[1e21,1e20,123456789012345680000,1e-6,1e-7,1.5e-7,-1e-7,123e-20]`,
		`[1e+21,100000000000000000000,123456789012345680000,0.000001,1e-7,1.5e-7,-1e-7,1.23e-18]`},
	{`[1e999,-1e999,1e-999,5e-324,2e-324,1.7976931348623157e308,1.7976931348623159e308]`,
		`[null,null,0,5e-324,0,1.7976931348623157e+308,null]`},
	{`[9007199254740993,0.1,0.30000000000000004,1e100,4570381246341]`,
		`[9007199254740992,0.1,0.30000000000000004,1e+100,4570381246341]`},
	{`"\u0000\u0008\b\t\n\u000b\f\r\u001f\u007f"`,
		"\"\\u0000\\b\\b\\t\\n\\u000b\\f\\r\\u001f\u007f\""},
	{`"\/\"\\\u0022\u005C\u002f"`, `"/\"\\\"\\/"`},
	{"\"<>&'é\u2028\u2029😀\"", "\"<>&'é\u2028\u2029😀\""},
	{`"\u003c\u00E9\u2028\ud83d\ude00\uD83D\uDE00"`, "\"<é\u2028😀😀\""},
	{`"\uD800"`, `"\ud800"`},
	{`"\uDE00\uD83D"`, `"\ude00\ud83d"`},
	{`"\uD83D\uD83D\uDE00\uDE00"`, `"\ud83d😀\ude00"`},
	{`"\uD83Dx\uDE00"`, `"\ud83dx\ude00"`},
	{`"\uD83D\n\uDBFF\uDFFF\uDFFF"`, "\"\\ud83d\\n\U0010FFFF\\udfff\""},
	{"\"\xff|\xc0\xaf|\xe2\x82|\xe2\x82\xac|\xed\xa0\x80|\xf0\x9f\x98|" +
		"\xf4\x90\x80\x80|\xf0\x80\x80\x80|\xc3\"",
		"\"\uFFFD|\uFFFD\uFFFD|\uFFFD|€|\uFFFD\uFFFD\uFFFD|\uFFFD|" +
			"\uFFFD\uFFFD\uFFFD\uFFFD|\uFFFD\uFFFD\uFFFD\uFFFD|\uFFFD\""},
	{"{\"\xff\":1,\"\uFFFD\":2}", "{\"\uFFFD\":2}"},
	{`{"\u0031":1,"b":2,"\u0062":3}`, `{"1":1,"b":3}`},
	{"\"\uFEFF\"", "\"\uFEFF\""},
	{`""`, `""`}, {`0`, `0`}, {`[]`, `[]`}, {`{}`, `{}`}, {`[[],{}]`, `[[],{}]`},
}

var badDocuments = []string{
	``, ` `, `{`, `}`, `[`, `[1`, `[1,`, `[1,]`, `[,1]`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`,
	`{"a":1,}`, `{,}`, `{a:1}`,
	`{'a':1}`, `{1:1}`, `{"a" 1}`, `{"a":1 "b":2}`, `[1 2]`, `1 2`, `{}{}`, `nul`, `nulll`, `True`,
	`NaN`, `Infinity`,
	`undefined`, `+1`, `-`, `.5`, `1.`, `1.e1`, `01`, `-01`, `00`, `1e`, `1e+`, `1e1.5`, `0x1`,
	`1_000`, `1n`, `--1`,
	`"`, `"\"`, `"\`, `"\u`, `"\u12`, `"\u123"`, `"\u123g"`, `"\U0041"`, `"\x41"`, `"\a"`, `"\0"`,
	`"\'"`, "\"\t\"", "\"\n\"",
	"\"\x00\"", "\"\x1f\"", "\uFEFF{}", "\uFEFF", "{}\uFEFF", "\u00a0{}", "\v1", "\f1", "\x00",
	"1\x00", "{}\x00",
	"// c\n1", "/**/1", "1;", "\xff", "{\xff}", "\u2028", "\"a\" \"b\"", `"\ud83d\u"`,
	`"\ud83d\uZZZZ"`, `["a":1]`,
}

func TestCanonicalLiterals(t *testing.T) {
	for _, d := range literalDocuments {
		if got, err := canonical([]byte(d.in)); err != nil || string(got) != d.want {
			t.Errorf("%q\n got %q, %v\nwant %q", d.in, got, err, d.want)
		}
	}
	for _, in := range badDocuments {
		var syntax *syntaxError
		if got, err := canonical([]byte(in)); !errors.As(err, &syntax) {
			t.Errorf("%q: got %q, %v", in, got, err)
		} else if syntax.Offset < 0 || syntax.Offset > len(in) {
			t.Errorf("%q: the error is at byte %d", in, syntax.Offset)
		}
	}
}

func TestCanonicalDepth(t *testing.T) {
	for _, brackets := range [][2]string{{"[", "]"}, {`{"a":`, "}"}} {
		nested := func(n int) []byte {
			return []byte(strings.Repeat(brackets[0], n) + "1" + strings.Repeat(brackets[1], n))
		}
		if got, err := canonical(nested(maxDepth)); err != nil ||
			string(got) != string(nested(maxDepth)) {
			t.Errorf("depth %d: %v", maxDepth, err)
		}
		for _, n := range []int{maxDepth + 1, 1 << 20} {
			var syntax *syntaxError
			if _, err := canonical(nested(n)); !errors.As(err, &syntax) {
				t.Errorf("depth %d: got %v", n, err)
			}
		}
	}
}

// TestCanonicalIsNodes compares with the real JSON.stringify(JSON.parse(text)), refusals included.
func TestCanonicalIsNodes(t *testing.T) {
	var docs [][]byte
	for _, d := range literalDocuments {
		docs = append(docs, []byte(d.in))
	}
	for _, d := range badDocuments {
		docs = append(docs, []byte(d))
	}
	g := &documents{rand.New(rand.NewPCG(1, 2))}
	for range 2500 {
		doc := g.document()
		docs = append(docs, doc, g.damage(doc))
	}
	ops := make([]operation, len(docs))
	for i, d := range docs {
		ops[i] = op("stringify", d)
	}
	accepted, bad := 0, 0
	for i, want := range reference(t, ops) {
		got, err := canonical(docs[i])
		if want.OK {
			accepted++
		}
		if (err == nil) != want.OK || string(got) != string(want.Text) {
			t.Errorf("%q\n got %q, %v\nnode %q, %v", docs[i], got, err, want.Text, want.OK)
			if bad++; bad == 10 {
				t.FailNow()
			}
		}
	}
	if accepted < len(docs)/2 || accepted > len(docs)*9/10 {
		t.Errorf("%d of %d documents were accepted: the generator is one-sided", accepted,
			len(docs))
	}
}

// documents makes random JSON with many edge cases.
type documents struct{ *rand.Rand }

func (g *documents) document() []byte { return append(g.value(nil, 0), g.space()...) }

func (g *documents) space() string {
	return [...]string{"", "", "", " ", "\n", "\t", "\r\n", "  "}[g.IntN(8)]
}

func (g *documents) value(dst []byte, depth int) []byte {
	dst = append(dst, g.space()...)
	kind := g.IntN(10)
	if depth > 4 {
		kind = g.IntN(6)
	}
	switch {
	case kind < 3:
		return append(dst, g.number()...)
	case kind < 5:
		return g.text(dst)
	case kind == 5:
		return append(dst, [...]string{"true", "false", "null"}[g.IntN(3)]...)
	case kind < 8:
		dst = append(dst, '[')
		for i := range g.IntN(5) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(g.value(dst, depth+1), g.space()...)
		}
		return append(dst, ']')
	}
	dst = append(dst, '{')
	for i := range g.IntN(9) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(g.key(append(dst, g.space()...)), g.space()...)
		dst = append(g.value(append(dst, ':'), depth+1), g.space()...)
	}
	return append(dst, '}')
}

func (g *documents) key(dst []byte) []byte {
	switch g.IntN(4) {
	case 0:
		return strconv.AppendQuote(dst, strconv.Itoa(g.IntN(20)))
	case 1:
		return strconv.AppendQuote(dst, [...]string{"__proto__", "a", "b", "c", "length",
			"4294967294", "4294967295",
			"4294967293", "00", "-0", "1e1", "2147483648", "2147483647", "9007199254740993",
			"toString"}[g.IntN(15)])
	case 2:
		return strconv.AppendQuote(dst, strconv.FormatUint(g.Uint64()>>g.IntN(64), 10))
	}
	return g.text(dst)
}

func (g *documents) number() string {
	var bits [8]byte
	binary.LittleEndian.PutUint64(bits[:], g.Uint64())
	f := math.Float64frombits(binary.LittleEndian.Uint64(bits[:]))
	if math.IsNaN(f) || math.IsInf(f, 0) {
		f = 1e300
	}
	switch g.IntN(8) {
	case 0: // any double, in one of several spellings
		return strconv.FormatFloat(f, "eEgG"[g.IntN(4)], []int{-1, 16, 17, 25}[g.IntN(4)], 64)
	case 1: // near the thresholds between notations
		exp := [...]int{-8, -7, -6, -5, 20, 21, 22}[g.IntN(7)]
		return fmt.Sprintf("%d.%de%d", 1+g.IntN(9), g.IntN(100000), exp)
	case 2:
		return strconv.FormatInt(g.Int64()>>g.IntN(64), 10)
	case 3: // between two doubles
		return strconv.FormatUint(1<<53+g.Uint64N(1<<53), 10) + "." +
			strings.Repeat("0", g.IntN(30)) + "5"
	case 4: // around the smallest and the greatest
		return fmt.Sprintf("%de%d", 1+g.IntN(99),
			[...]int{-326, -325, -324, -323, -310, 306, 307, 308, 309}[g.IntN(9)])
	case 5:
		return fmt.Sprintf("-%d.%0*d", g.IntN(3), 1+g.IntN(20), g.IntN(10))
	case 6:
		return strconv.FormatFloat(math.Abs(math.Mod(f, 1e6)), 'f', 1+g.IntN(30), 64)
	}
	return [...]string{"0", "-0", "1", "-1", "0.1", "1e999", "1E-999", "4570381246341",
		"0e0"}[g.IntN(9)]
}

var textParts = []string{
	"a", "Z", " ", "/", `\/`, `\"`, `\\`, `\b`, `\f`, `\n`, `\r`, `\t`, "<", ">", "&", "'",
	"\u007f", "é", "\u2028", "\u2029",
	"😀", "\uFEFF", "\uFFFF", "\U0010FFFF", "\uFFFD", "\u0080", `\ud83d`, `\ude00`, `\uD83D\uDE00`,
	`\uDBFF`, `\uDC00`,
	`\u0000`, `\u001F`, `\u007f`, `\u0022`, `\u005c`, `\u2028`, `\uFFFE`, "\x80", "\xbf", "\xc0",
	"\xc2", "\xe0", "\xe2\x82",
	"\xed\xa0", "\xed\xbf\xbf", "\xf0", "\xf0\x9f", "\xf0\x9f\x98", "\xf4\x90", "\xf5", "\xff",
	"\xe0\x80\x80", "\xf0\x8f\xbf\xbf",
}

func (g *documents) text(dst []byte) []byte {
	dst = append(dst, '"')
	for range g.IntN(8) {
		if g.IntN(8) == 0 {
			dst = fmt.Appendf(dst, `\u%04x`, g.IntN(1<<16))
		} else {
			dst = append(dst, textParts[g.IntN(len(textParts))]...)
		}
	}
	return append(dst, '"')
}

// damage changes, removes or adds a few bytes.
func (g *documents) damage(doc []byte) []byte {
	doc = append([]byte(nil), doc...)
	for range 1 + g.IntN(2) {
		at := g.IntN(len(doc))
		switch g.IntN(3) {
		case 0:
			doc[at] ^= 1 << g.IntN(8)
		case 1:
			doc = append(doc[:at], doc[at+1:]...)
		case 2:
			with := "{}[]\",:\\0-.eE \x00\xff"
			doc = append(doc[:at], append([]byte{with[g.IntN(len(with))]}, doc[at:]...)...)
		}
		if len(doc) == 0 {
			return doc
		}
	}
	return doc
}

// FuzzCanonical checks, with encoding/json to decide what is JSON at all, that the printed form is
// JSON, means the same, and is its own canonical form.
func FuzzCanonical(f *testing.F) {
	for _, d := range literalDocuments {
		f.Add([]byte(d.in))
	}
	for _, d := range badDocuments {
		f.Add([]byte(d))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		once, err := canonical(doc)
		if err != nil {
			var syntax *syntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("an error of another kind: %v", err)
			}
			if json.Valid(doc) && syntax.Problem != "nested too deeply" {
				t.Fatalf("refused although it is JSON: %v", err)
			}
			return
		}
		if !json.Valid(doc) {
			t.Fatal("accepted although it is no JSON")
		}
		if !json.Valid(once) {
			t.Fatalf("printed what is no JSON: %q", once)
		}
		twice, err := canonical(once)
		if err != nil || string(twice) != string(once) {
			t.Fatalf("not a fixpoint: %q, then %q, %v", once, twice, err)
		}
	})
}
