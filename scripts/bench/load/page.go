package load

import (
	"bytes"
	"context"
	"fmt"
	"html/template"
	"image"
	"image/color"
	"image/png"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// The page consists of 200 resources, 5.3 MB in total, from as many origins as it has ports.
const (
	PageOrigins   = 6
	PageResources = pageImages + pageScripts + pageStyles

	pageImages  = 140
	pageScripts = 44
	pageStyles  = 16
)

// Sizes in bytes of the smallest and the largest resource of a kind; those of the others form a
// geometric series between them.
const (
	leastImage, mostImage   = 8 << 10, 42 << 10
	leastScript, mostScript = 20 << 10, 68 << 10
	leastStyle, mostStyle   = 20 << 10, 60 << 10
)

// resource is what one of the page's addresses serves.
type resource struct {
	kind string // its content type
	body []byte
}

// page serves the page under all its origins.
type page struct {
	host      string
	first     int // port
	resources map[string]resource
	html      []byte
	report    func(run, milliseconds, loaded string)
}

// ServePage serves the page on PageOrigins ports of a host until ctx is done. It calls ready once
// it serves, and report when a browser has loaded the page: with the text after ?run= in its
// address, the milliseconds from the start of the navigation to the load event, and how many of the
// resources loaded. report may be called concurrently.
func ServePage(ctx context.Context, host string, first int, ready func(),
	report func(run, milliseconds, loaded string)) error {
	p := &page{host: host, first: first, resources: make(map[string]resource), report: report}
	if err := p.make(); err != nil {
		return err
	}
	server := &http.Server{Handler: p, ErrorLog: log.New(io.Discard, "", 0)}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer server.Close()
	for port := first; port < first+PageOrigins; port++ {
		ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return err
		}
		serving.Go(func() { server.Serve(ln) })
	}
	ready()
	<-ctx.Done()
	return nil
}

// ServeHTTP serves the page and its resources, and receives its report.
func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	switch r.URL.Path {
	case "/":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(p.html)
		return
	case "/report":
		query := r.URL.Query()
		p.report(query.Get("run"), query.Get("ms"), query.Get("loaded"))
		return
	}
	found, ok := p.resources[r.URL.Path]
	if !ok {
		http.NotFound(w, r) // /favicon.ico, for one
		return
	}
	w.Header().Set("Content-Type", found.kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(found.body)))
	w.Write(found.body)
}

// make generates the resources and the page, which are the same every time.
func (p *page) make() error {
	addresses := make(map[string][]string) // by kind, in the order of the page
	add := func(path string, made resource) {
		origin := net.JoinHostPort(p.host, strconv.Itoa(p.first+len(p.resources)%PageOrigins))
		p.resources[path] = made
		addresses[made.kind] = append(addresses[made.kind], "http://"+origin+path)
	}
	for i := range pageStyles {
		text := fmt.Sprintf(":root { --style-%d: 1 }\n", i)
		add(fmt.Sprintf("/%d.css", i), resource{"text/css",
			padded(text, "/* what a style is made of */\n", size(leastStyle, mostStyle, i, pageStyles))})
	}
	for i := range pageScripts {
		add(fmt.Sprintf("/%d.js", i), resource{"text/javascript",
			padded("scripts++;\n", "// what a script is made of\n",
				size(leastScript, mostScript, i, pageScripts))})
	}
	for i := range pageImages {
		body, err := noise(size(leastImage, mostImage, i, pageImages))
		if err != nil {
			return err
		}
		add(fmt.Sprintf("/%d.png", i), resource{"image/png", body})
	}
	var html bytes.Buffer
	err := pageTemplate.Execute(&html, map[string]any{
		"Styles": addresses["text/css"], "Scripts": addresses["text/javascript"],
		"Images": addresses["image/png"],
	})
	p.html = html.Bytes()
	return err
}

// size returns the i-th of n sizes.
func size(least, most float64, i, n int) int {
	return int(least * math.Pow(most/least, float64(i)/float64(n-1)))
}

func padded(text, filler string, size int) []byte {
	return []byte(text + strings.Repeat(filler, (size-len(text))/len(filler)))
}

// noise returns a picture of about size bytes, which does not compress.
func noise(size int) ([]byte, error) {
	const height = 32
	width := max(1, size/(3*height))
	picture := image.NewRGBA(image.Rect(0, 0, width, height))
	random := rand.New(rand.NewPCG(uint64(size), 0))
	for y := range height {
		for x := range width {
			c := random.Uint32()
			picture.SetRGBA(x, y, color.RGBA{byte(c), byte(c >> 8), byte(c >> 16), 255})
		}
	}
	var b bytes.Buffer
	err := png.Encode(&b, picture)
	return b.Bytes(), err
}

// pageTemplate counts the resources that loaded, once all have loaded or failed.
var pageTemplate = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<title>200 resources</title>
<script>
  'use strict';
  let scripts = 0;
  addEventListener('load', () => {
    const took = performance.now();
    const style = getComputedStyle(document.documentElement);
    let loaded = scripts;
    for (let i = 0; i < {{len .Styles}}; i++) {
      loaded += Number(style.getPropertyValue('--style-' + i));
    }
    for (const picture of document.images) {
      loaded += picture.naturalWidth > 0 ? 1 : 0;
    }
    const run = new URLSearchParams(location.search).get('run');
    fetch('/report?run=' + run + '&ms=' + took + '&loaded=' + loaded, { method: 'POST' });
  });
</script>
{{range .Styles}}<link rel="stylesheet" href="{{.}}">
{{end}}</head>
<body>
{{range .Images}}<img src="{{.}}" alt="">
{{end}}{{range .Scripts}}<script src="{{.}}"></script>
{{end}}</body>
</html>
`))
