//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"image"
	"image/color"
	"image/png"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// The page's origins. Their names and addresses exist only on the remote's host.
const (
	pageHost    = "www.culvert.test"
	staticHost  = "static.culvert.test"
	imageHost   = "images.culvert.test"
	serviceHost = "service.culvert.test"

	pageHosts = "127.0.1.1 " + pageHost + "\n127.0.1.2 " + staticHost + "\n" +
		"127.0.1.3 " + imageHost + "\n127.0.1.4 " + serviceHost + "\n"
)

// The page's contents: 200 resources, some 4 MB.
const (
	pageImages  = 80
	pageScripts = 50
	pageStyles  = 20
	pageFetches = 50

	pageResources = pageImages + pageScripts + pageStyles + pageFetches
)

// resource is the response for one of the page's URLs.
type resource struct {
	kind string // content type
	body []byte
}

// pageReport is the report that the page sends when it has loaded.
type pageReport struct {
	Images  int      `json:"images"`
	Scripts int      `json:"scripts"`
	Styles  int      `json:"styles"`
	Fetches int      `json:"fetches"`
	Bad     []string `json:"bad"` // what is missing or different
}

// pageServer serves the page under all its origins.
type pageServer struct {
	t         *testing.T
	resources map[string]resource // by host and path
	reports   chan pageReport

	mu     sync.Mutex // guards served
	served map[string]int
}

// startPage serves the page on a host.
func startPage(t *testing.T, h *host) *pageServer {
	t.Helper()
	s := &pageServer{t: t, resources: makeResources(t), reports: make(chan pageReport, 1),
		served: make(map[string]int)}
	for i := 1; i <= 4; i++ {
		s.serve(h.listen(t, fmt.Sprintf("127.0.1.%d:80", i)))
	}
	return s
}

func (s *pageServer) serve(ln net.Listener) {
	server := httptest.NewUnstartedServer(s)
	server.Listener.Close()
	server.Listener = ln
	server.Start()
	s.t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
}

// makeResources makes all resources except the page itself.
func makeResources(t *testing.T) map[string]resource {
	t.Helper()
	all := make(map[string]resource, pageResources)
	for i := range pageImages {
		all[imageHost+"/"+strconv.Itoa(i)+".png"] = resource{"image/png", noise(t, i+1)}
	}
	for i := range pageScripts {
		script := fmt.Sprintf("loaded.push(%d);\n%s", i,
			strings.Repeat("// what a script is made of\n", 40*i))
		all[staticHost+"/"+strconv.Itoa(i)+".js"] = resource{"text/javascript", []byte(script)}
	}
	for i := range pageStyles {
		style := fmt.Sprintf(":root { --style-%d: %d }\n%s", i, i,
			strings.Repeat("/* what a style is made of */\n", 100*i))
		all[staticHost+"/"+strconv.Itoa(i)+".css"] = resource{"text/css", []byte(style)}
	}
	for i := range pageFetches {
		answer := strings.Repeat(fmt.Sprintf("answer %d\n", i), 100*i+1)
		all[serviceHost+"/"+strconv.Itoa(i)] = resource{"text/plain", []byte(answer)}
	}
	if len(all) != pageResources {
		t.Fatalf("%d resources, want %d", len(all), pageResources)
	}
	return all
}

// noise returns an incompressible PNG image, n pixels wide.
func noise(t *testing.T, n int) []byte {
	t.Helper()
	picture := image.NewRGBA(image.Rect(0, 0, n, 128))
	random := rand.New(rand.NewPCG(uint64(n), 0))
	for y := range 128 {
		for x := range n {
			c := random.Uint32()
			picture.SetRGBA(x, y, color.RGBA{byte(c), byte(c >> 8), byte(c >> 16), 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// ServeHTTP serves the page and its resources, and accepts the page's report.
func (s *pageServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.Host + r.URL.Path {
	case "GET " + pageHost + "/":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if err := page.Execute(w, map[string]any{
			"Images": pageImages, "Scripts": pageScripts, "Styles": pageStyles, "Fetches": pageFetches,
			"ImageHost": imageHost, "StaticHost": staticHost, "ServiceHost": serviceHost,
		}); err != nil {
			s.t.Errorf("the page: %v", err)
		}
		return
	case "POST " + pageHost + "/report":
		var report pageReport
		if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&report); err != nil {
			s.t.Errorf("the page's report: %v", err)
		}
		select {
		case s.reports <- report:
		default: // a page reports once
			s.t.Error("the page reported twice")
		}
		return
	}
	key := r.Host + r.URL.Path
	found, ok := s.resources[key]
	if !ok {
		http.NotFound(w, r) // /favicon.ico, for one
		return
	}
	s.mu.Lock()
	s.served[key]++
	s.mu.Unlock()
	w.Header().Set("Content-Type", found.kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(found.body)))
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Access-Control-Allow-Origin", "http://"+pageHost)
	w.Write(found.body)
}

// servedOnce returns the number of resources that were served once, and those served more often.
func (s *pageServer) servedOnce() (once int, more map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	more = maps.Clone(s.served)
	maps.DeleteFunc(more, func(_ string, n int) bool { return n == 1 })
	return len(s.served) - len(more), more
}

// page checks the content of each of its resources, and reports when all have loaded or failed.
var page = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<title>200 resources</title>
<script>
  'use strict';
  const loaded = [];
  const bad = [];
  const from = (n, make) => Array.from({ length: n }, (_, i) => make(i));

  function style(i) {
    return new Promise((resolve) => {
      const link = document.createElement('link');
      link.rel = 'stylesheet';
      link.onload = link.onerror = resolve;
      link.href = 'http://{{.StaticHost}}/' + i + '.css';
      document.head.append(link);
    }).then(() => {
      const style = getComputedStyle(document.documentElement);
      const value = style.getPropertyValue('--style-' + i).trim();
      return value === String(i) || (bad.push('style ' + i + ': ' + value), false);
    });
  }

  function script(i) {
    return new Promise((resolve) => {
      const element = document.createElement('script');
      element.onload = element.onerror = resolve;
      element.src = 'http://{{.StaticHost}}/' + i + '.js';
      document.head.append(element);
    }).then(() => loaded.includes(i) || (bad.push('script ' + i), false));
  }

  function picture(i) {
    return new Promise((resolve) => {
      const element = document.createElement('img');
      element.onload = element.onerror = () => resolve(element);
      element.src = 'http://{{.ImageHost}}/' + i + '.png';
      document.body.append(element);
    }).then((element) => (element.naturalWidth === i + 1 && element.naturalHeight === 128) ||
      (bad.push('image ' + i + ': ' + element.naturalWidth), false));
  }

  async function answer(i) {
    try {
      const response = await fetch('http://{{.ServiceHost}}/' + i);
      const text = await response.text();
      const good = text === ('answer ' + i + '\n').repeat(100 * i + 1);
      if (!good) bad.push('fetch ' + i + ': ' + text.length);
      return good;
    } catch (err) {
      bad.push('fetch ' + i + ': ' + err);
      return false;
    }
  }

  async function load() {
    const all = {
      styles: from({{.Styles}}, style), scripts: from({{.Scripts}}, script),
      images: from({{.Images}}, picture), fetches: from({{.Fetches}}, answer),
    };
    const report = { bad };
    for (const [kind, results] of Object.entries(all)) {
      report[kind] = (await Promise.all(results)).filter(Boolean).length;
    }
    fetch('/report', { method: 'POST', body: JSON.stringify(report) });
  }
</script>
</head>
<body onload="load()"></body>
</html>
`))
