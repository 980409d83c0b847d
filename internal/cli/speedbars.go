package cli

import (
	"os"

	"culvert/tunnel/speed"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"
)

// barSteps is the length of a bar.
const barSteps = 1000

// speedBars shows how far a speed test is, on a terminal only.
type speedBars struct {
	terminal *os.File // nil for none
	phase    speed.Phase
	bar      *progressbar.ProgressBar
}

func newSpeedBars(f *os.File) *speedBars {
	if !isatty.IsTerminal(f.Fd()) && !isatty.IsCygwinTerminal(f.Fd()) {
		f = nil
	}
	return &speedBars{terminal: f}
}

// show shows how far the test is now.
func (b *speedBars) show(p speed.Progress) {
	if b.terminal == nil {
		return
	}
	if b.bar == nil || b.phase != p.Phase {
		b.close()
		b.phase = p.Phase
		b.bar = progressbar.NewOptions(barSteps,
			progressbar.OptionSetWriter(b.terminal),
			progressbar.OptionSetWidth(30),
			progressbar.OptionSetPredictTime(false),
			progressbar.OptionSetElapsedTime(false),
			progressbar.OptionClearOnFinish())
	}
	text := string(p.Phase)
	if p.Rate > 0 {
		text += " " + byteRate(p.Rate)
	}
	b.bar.Describe(text)
	_ = b.bar.Set(min(int(p.Done*barSteps), barSteps-1)) // a terminal that has gone shows nothing
}

// close removes the bar.
func (b *speedBars) close() {
	if b.bar != nil {
		_ = b.bar.Clear()
		b.bar = nil
	}
}
