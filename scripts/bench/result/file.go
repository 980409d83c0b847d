package result

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
)

// Read reads the results of a file that Write has written. If the file does not exist, they are
// empty.
func Read(path string) (*Results, error) {
	r := New()
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &r.Cases); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// Write replaces the file atomically. It is a JSON object of the cases in the order of their names,
// with a case on each line, so that a comparison of two versions shows which were measured again.
func (r *Results) Write(path string) error {
	var text bytes.Buffer
	between := "{\n"
	for _, name := range slices.Sorted(maps.Keys(r.Cases)) {
		line, err := json.Marshal(r.Cases[name])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(&text, "%s%q: %s", between, name, line)
		between = ",\n"
	}
	if text.Len() == 0 {
		text.WriteByte('{')
	}
	text.WriteString("\n}\n")
	temporary := path + ".new"
	if err := os.WriteFile(temporary, text.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
