package printable

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

var texts = map[string]string{
	"":                             "",
	"plain text, \"quoted\" \\x":   "plain text, \"quoted\" \\x",
	"Grüße, 日本語 😀":                 "Grüße, 日本語 😀",
	"\x1b]0;title\x07\x1b[2J":      `\x1b]0;title\a\x1b[2J`,
	"a\nINF fake\r\t":              `a\nINF fake\r\t`,
	"\x00\x7f\u0080\u009b31m":      `\x00\x7f\u0080\u009b31m`,
	"\u202eevil\u2066\u200b\ufeff": `\u202eevil\u2066\u200b\ufeff`,
	"\u2028\u2029\u00a0":           `\u2028\u2029\u00a0`,
	"\xff\xc3(":                    `\xff\xc3(`,
	"\xed\xa0\x80":                 `\xed\xa0\x80`,
	"\ufffd":                       "\ufffd",
	"\U000e0041\U0010ffff":         `\U000e0041\U0010ffff`,
}

func TestLine(t *testing.T) {
	for text, want := range texts {
		if got := Line(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestLines(t *testing.T) {
	if got := Lines("a\x1b\nb\n"); got != "a\\x1b\nb\n" {
		t.Errorf("%q", got)
	}
}

func TestWriter(t *testing.T) {
	for text, want := range texts {
		var out bytes.Buffer
		if n, err := (Writer{&out}).Write([]byte(text + "\n")); n != len(text)+1 || err != nil {
			t.Errorf("%q: %d, %v", text, n, err)
		}
		if out.String() != want+"\n" {
			t.Errorf("%q: wrote %q, want %q", text, out.String(), want)
		}
	}
	broken := errors.New("broken")
	if _, err := (Writer{failing{broken}}).Write([]byte("x")); err != broken {
		t.Errorf("%v", err)
	}
}

func TestJSONWriter(t *testing.T) {
	for text := range texts {
		line, err := json.Marshal(map[string]string{"text": text})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		n, err := JSONWriter{&out}.Write(append(line, '\n'))
		if n != len(line)+1 || err != nil {
			t.Errorf("%q: %d, %v", text, n, err)
		}
		got, ended := strings.CutSuffix(out.String(), "\n")
		if !ended || Line(got) != got {
			t.Errorf("%q: wrote %q", text, out.String())
		}
		var decoded map[string]string
		if err := json.Unmarshal([]byte(got), &decoded); err != nil ||
			utf8.ValidString(text) && decoded["text"] != text {
			t.Errorf("%q: %q, %v", text, decoded, err)
		}
	}
	broken := errors.New("broken")
	for _, text := range []string{"{}\n", "{\"\u009b\":1}\n"} {
		if _, err := (JSONWriter{failing{broken}}).Write([]byte(text)); err != broken {
			t.Errorf("%v", err)
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func FuzzLine(f *testing.F) {
	for text := range texts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := Line(text)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool {
			return !strconv.IsPrint(r)
		}) {
			t.Errorf("%q: %q", text, got)
		}
		if Line(got) != got {
			t.Errorf("%q: twice, it is another text", text)
		}
	})
}
