package report

import (
	"bytes"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"culvert/scripts/bench/peer"
	"culvert/scripts/bench/result"
)

const (
	plotWidth  = 9 * vg.Inch
	plotHeight = 3.6 * vg.Inch

	// legendAt is the share of the width that lies left of the legend.
	legendAt = 0.62

	// legendSize is the font size of the legend, which leaves room for a viewer's font that is wider
	// than the one used for the layout.
	legendSize = 10

	// margin stays free at the border, and headroom, a share of the height, above the highest bar.
	margin   = 6
	headroom = 0.05

	// groupWidth is the share of the width that the bars of one group take.
	groupWidth = 0.8
)

// colours of the peers, distinguishable with red-green colour blindness (Okabe and Ito).
var colours = map[string]color.Color{
	peer.Culvert:       color.RGBA{0, 114, 178, 255},
	peer.CulvertAlways: color.RGBA{86, 180, 233, 255},
	peer.OpenSSHGCM:    color.RGBA{230, 159, 0, 255},
	peer.OpenSSH:       color.RGBA{240, 228, 66, 255},
	peer.XrayVLESS:     color.RGBA{0, 158, 115, 255},
	peer.XrayVMess:     color.RGBA{204, 121, 167, 255},
	peer.None:          color.RGBA{153, 153, 153, 255},
}

// plottable reports whether there is anything to draw.
func plottable(t table, p plotted, r *result.Results) bool {
	for _, i := range p.columns {
		if c := t.columns[i]; len(r.Values(c.name, peer.Culvert, c.value)) > 0 {
			return true
		}
	}
	return false
}

// drawAll draws the plots of all tables.
func drawAll(folder string, r *result.Results) error {
	for _, t := range tables {
		for _, p := range t.plots {
			if !plottable(t, p, r) {
				continue
			}
			svg, err := drawPlot(t, p, r)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(folder, p.file), svg, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// drawPlot draws a group of bars for each column, with a bar for each peer: its median, and a line
// from the minimum to the maximum. "No proxy" is left out where it is only the ceiling: it would
// make the others hard to see.
func drawPlot(t table, p plotted, r *result.Results) ([]byte, error) {
	chart := plot.New()
	chart.Title.Text = p.title
	chart.Y.Label.Text = p.axis
	chart.Y.Min = 0
	chart.Legend.Top = true
	// Its texts then begin at the same place in any font.
	chart.Legend.Left = true
	chart.Legend.XOffs = plotWidth * legendAt
	for _, style := range []*text.Style{
		&chart.Title.TextStyle, &chart.X.Tick.Label, &chart.Y.Tick.Label, &chart.Y.Label.TextStyle,
		&chart.Legend.TextStyle,
	} {
		style.Font.Variant = "Sans"
	}
	chart.Legend.TextStyle.Font.Size = vg.Points(legendSize)
	peers := tunnels
	if t.direct {
		peers = t.peers
	}
	bar := plotWidth * legendAt * groupWidth / vg.Length(len(peers)*len(p.columns))
	for i, name := range peers {
		offset := bar * (vg.Length(i) - vg.Length(len(peers)-1)/2)
		if err := addPeer(chart, t, p, name, bar, offset, r); err != nil {
			return nil, err
		}
	}
	var heads []string
	for _, i := range p.columns {
		head := t.columns[i].head
		if unit := strings.LastIndexByte(head, ','); unit > 0 { // the axis has it
			head = head[:unit]
		}
		heads = append(heads, head)
	}
	chart.NominalX(heads...)
	// Room at the right for the legend.
	chart.X.Min, chart.X.Max = -0.5, float64(len(heads))/(legendAt+0.05)-0.5
	canvas := vgsvg.New(plotWidth, plotHeight)
	chart.Y.Max *= 1 + headroom
	chart.Draw(draw.Crop(draw.New(canvas), margin, -margin, margin, -margin))
	var svg bytes.Buffer
	_, err := canvas.WriteTo(&svg)
	return svg.Bytes(), err
}

// addPeer adds a peer's bars.
func addPeer(chart *plot.Plot, t table, p plotted, name string, width, offset vg.Length,
	r *result.Results) error {
	medians := make(plotter.Values, len(p.columns))
	var ends spans
	for group, i := range p.columns {
		c := t.columns[i]
		s := result.Summarize(r.Values(c.name, name, c.value))
		if s.Count == 0 || math.IsNaN(s.Median) {
			continue
		}
		medians[group] = s.Median
		ends = append(ends, span{float64(group), s})
	}
	if len(ends) == 0 {
		return nil
	}
	bars, err := plotter.NewBarChart(medians, width)
	if err != nil {
		return err
	}
	bars.Color, bars.Offset = colours[name], offset
	bars.LineStyle.Width = 0
	lines, err := plotter.NewYErrorBars(ends)
	if err != nil {
		return err
	}
	lines.CapWidth = width / 2
	chart.Add(bars, shifted{lines, offset})
	chart.Legend.Add(peer.Label(name), bars)
	return nil
}

// span is the position of a bar and what it summarizes.
type span struct {
	x float64
	s result.Summary
}

// spans are the data of error bars.
type spans []span

func (s spans) Len() int                { return len(s) }
func (s spans) XY(i int) (x, y float64) { return s[i].x, s[i].s.Median }
func (s spans) YError(i int) (below, above float64) {
	return s[i].s.Median - s[i].s.Least, s[i].s.Most - s[i].s.Median
}

// shifted draws error bars off the middle of their group, on their bars.
type shifted struct {
	*plotter.YErrorBars
	offset vg.Length
}

// Plot draws on a canvas that is shifted by the offset.
func (s shifted) Plot(c draw.Canvas, p *plot.Plot) {
	c.Min.X += s.offset
	c.Max.X += s.offset
	s.YErrorBars.Plot(c, p)
}
