package main

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/analysis/analysistest"
)

func TestAnalyzers(t *testing.T) {
	data := analysistest.TestData()
	analysistest.Run(t, data, waits, "waits")
	analysistest.Run(t, data, structs, "structs")
	analysistest.Run(t, data, goroutines, "culvert/protocol", "culvert/tunnel/mux")
}

func TestLongLines(t *testing.T) {
	full := strings.Repeat("é", maxLine)
	url := "https://" + full
	for _, tt := range []struct {
		name, path, text string
		want             []int
	}{
		{"as long as allowed", "a.go", full + "\n" + full + "\r\n", nil},
		{"too long", "a.go", "x\n" + full + "x\n\n\t" + full, []int{2, 4}},
		{"shell", "a.sh", "# " + full, []int{1}},
		{"no suffix", "Makefile", full + " ", []int{1}},
		{"URL alone", "a.go", "\t// " + url + "\n# " + url, nil},
		{"URL in a sentence", "a.md", "see " + url, []int{1}},
		{"definition of a link", "a.md", "[name]: " + url, nil},
		{"table", "a.md", "| " + full + " |", nil},
		{"table elsewhere", "a.go", "| " + full + " |", []int{1}},
		{"code block", "a.md", "```sh\n" + full + "x\n```\n" + full + "x", []int{4}},
		{"code block in a list", "a.md", "- x\n  ```\n" + full + "x\n  ```\n" + full + "x", []int{5}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			long, err := longLines(tt.path, strings.NewReader(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			for _, line := range long {
				got = append(got, line.number)
				if line.length <= maxLine {
					t.Errorf("line %d has %d characters", line.number, line.length)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got lines %v, want %v", got, tt.want)
			}
		})
	}
}
