package table

import (
	"bytes"
	"os"

	"golang.org/x/term"
)

// defaultWidth is in columns, for what is no terminal.
const defaultWidth = 80

// leastWidth is the width below which lines are cut rather than made shorter.
const leastWidth = 60

// Width returns the width of a terminal, in columns, or defaultWidth.
func Width(file *os.File) int {
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil || width <= 0 {
		return defaultWidth
	}
	return width
}

// Screen shows pictures one after another: in place of each other on a terminal, else below each
// other.
type Screen struct {
	file    *os.File
	draws   bool
	picture bytes.Buffer
}

// NewScreen returns a Screen on a file. draws means that the file, if it is a terminal, understands
// control sequences.
func NewScreen(file *os.File, draws bool) *Screen { return &Screen{file: file, draws: draws} }

// Write adds to the next picture. It never fails.
func (s *Screen) Write(p []byte) (int, error) { return s.picture.Write(p) }

// Show shows the picture. On a terminal that draws, what has no room below is left out.
func (s *Screen) Show() error {
	defer s.picture.Reset()
	_, height, err := term.GetSize(int(s.file.Fd()))
	if err != nil || height <= 0 || !s.draws {
		s.picture.WriteByte('\n')
		_, err := s.file.Write(s.picture.Bytes())
		return err
	}
	_, err = s.file.Write(onTerminal(s.picture.Bytes(), height))
	return err
}

// onTerminal returns what draws a picture over the one before.
func onTerminal(picture []byte, height int) []byte {
	const home, clearLine, clearBelow = "\x1b[H", "\x1b[K", "\x1b[J"
	lines := bytes.Split(bytes.TrimRight(picture, "\n"), []byte("\n"))
	if len(lines) >= height { // the last line is for the cursor
		lines = lines[:max(height-1, 1)]
	}
	out := []byte(home)
	for _, line := range lines {
		out = append(append(append(out, line...), clearLine...), '\n')
	}
	return append(out, clearBelow...)
}
