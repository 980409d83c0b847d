//go:build linux

package e2e

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// debianPython is the interpreter that Debian's Python packages are for. PATH may find another
// first.
const debianPython = "/usr/bin/python3"

// lynxRecipe is from docs/tutorial-scripts.md: lynx ignores the port of a proxy with a password.
const lynxRecipe = `p=${http_proxy#http://}
	http_proxy=http://${p#*@} https_proxy=http://${p#*@} exec lynx -pauth="${p%@*}" -dump "$1"`

// fetchers print the page at a URL. They find the proxy through their environment.
var fetchers = map[string][]string{
	"curl": {"curl", "-q", "-sS", "--fail"},
	"wget": shell(`exec wget -q -O - --ca-certificate="$SSL_CERT_FILE" "$1"`),
	"wget-password": shell(
		`exec wget -q -O - --ca-certificate="$SSL_CERT_FILE" "${1%%//*}//user:p%40ss@${1#*//}"`),
	"httpx":    python("import httpx, sys; print(httpx.get(sys.argv[1]).text)"),
	"requests": python("import requests, sys; print(requests.get(sys.argv[1]).text)"),
	"urllib": python("import sys, urllib.request as u\n" +
		"print(u.urlopen(sys.argv[1]).read().decode())"),
	"undici": {"node", "http-get.js"},
	"aria2": shell(`aria2c -q --ca-certificate="$SSL_CERT_FILE" -d "$TMP" -o page "$1" &&
		exec cat "$TMP/page"`),
	"lynx": shell(lynxRecipe),
}

func shell(script string) []string { return []string{"sh", "-c", script, "sh"} }

func python(script string) []string { return []string{debianPython, "-c", script} }

// clientEnv returns an environment in which clients trust the servers' CA.
func clientEnv(t *testing.T, w *runWorld) []string {
	t.Helper()
	return append(cleanEnv(t), "SSL_CERT_FILE="+w.ca, "REQUESTS_CA_BUNDLE="+w.ca,
		"NODE_EXTRA_CA_CERTS="+w.ca, "TERM=dumb", "TMP="+t.TempDir())
}

// Each client loads a page from a host that only the tunnel reaches, over http:// and https://, and
// a page from its own machine without the tunnel.
func TestRunFetchers(t *testing.T) {
	t.Parallel()
	w := startRunWorld(t, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(rw, "a page of the far side")
	}))
	near := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(rw, "a page of the near side")
	}))
	t.Cleanup(near.Close)
	for name, argv := range fetchers {
		t.Run(name, func(t *testing.T) {
			for url, want := range map[string]string{
				"http://" + siteHost + "/" + name:                      "a page of the far side",
				"https://" + siteHost + "/" + name:                     "a page of the far side",
				near.URL + "/":                                         "a page of the near side",
				strings.Replace(near.URL, "127.0.0.1", "localhost", 1): "a page of the near side",
			} {
				got := w.run(t, clientEnv(t, w), filepath.Join("..", "interop"),
					append(slices.Clone(argv), url)...)
				if strings.TrimSpace(got) != want {
					t.Errorf("%s: got %q", url, got)
				}
			}
			if !w.got("GET /" + name) {
				t.Error("the server received no request")
			}
		})
	}
}

// The page is unreachable without the tunnel; otherwise TestRunFetchers would prove nothing.
func TestRunFetchersNeedTunnel(t *testing.T) {
	t.Parallel()
	r := run(t, patience, command(cleanEnv(t), "", "curl", "-q", "-sS", "http://"+siteHost+"/"))
	if r.status == 0 {
		t.Errorf("curl printed %q", r.stdout)
	}
}

// wheel returns a Python package for pip.
func wheel(t *testing.T) []byte {
	t.Helper()
	var content bytes.Buffer
	w := zip.NewWriter(&content)
	for name, text := range map[string]string{
		"culvert_fixture.py": "answer = 42\n",
		"culvert_fixture-1.2.3.dist-info/METADATA": "Metadata-Version: 2.1\nName: culvert-fixture\n" +
			"Version: 1.2.3\n",
		"culvert_fixture-1.2.3.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n" +
			"Tag: py3-none-any\n",
		"culvert_fixture-1.2.3.dist-info/RECORD": "",
	} {
		f, err := w.Create(name)
		if err == nil {
			_, err = io.WriteString(f, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return content.Bytes()
}

// pip downloads from an index that only the remote can reach.
func TestRunPip(t *testing.T) {
	t.Parallel()
	const file = "culvert_fixture-1.2.3-py3-none-any.whl"
	content := wheel(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /simple/culvert-fixture/", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(rw, `<!DOCTYPE html><a href="/files/%s">%s</a>`, file, file)
	})
	mux.HandleFunc("GET /files/"+file, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Write(content)
	})
	w := startRunWorld(t, mux)
	for _, scheme := range []string{"http://", "https://"} {
		folder := t.TempDir()
		env := append(cleanEnv(t), "PIP_CERT="+w.ca, "PIP_CONFIG_FILE=/dev/null")
		w.run(t, env, folder, debianPython, "-m", "pip", "-q", "--no-cache-dir",
			"--disable-pip-version-check", "--retries", "0", "download", "--no-deps", "--index-url",
			scheme+siteHost+"/simple/", "--trusted-host", siteHost, "culvert-fixture==1.2.3")
		got, err := os.ReadFile(filepath.Join(folder, file))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v", scheme, len(got), err)
		}
	}
}

// The go command downloads a module from a module proxy that only the remote can reach.
func TestRunGo(t *testing.T) {
	t.Parallel()
	const goMod = "module example.test/fixture\n"
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	f, err := z.Create("example.test/fixture@v1.2.3/go.mod")
	if err == nil {
		_, err = io.WriteString(f, goMod)
	}
	if err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"/example.test/fixture/@v/v1.2.3.info": `{"Version":"v1.2.3"}`,
		"/example.test/fixture/@v/v1.2.3.mod":  goMod,
		"/example.test/fixture/@v/v1.2.3.zip":  archive.String(),
	}
	w := startRunWorld(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		content, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(rw, r)
			return
		}
		io.WriteString(rw, content)
	}))
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	for _, scheme := range []string{"http://", "https://"} {
		folder := t.TempDir()
		env := append(cleanEnv(t), "SSL_CERT_FILE="+w.ca, "GOPROXY="+scheme+siteHost, "GONOSUMDB=*",
			"GOFLAGS=-modcacherw", "GOTOOLCHAIN=local", "GOTELEMETRY=off", "GOMODCACHE="+folder,
			"GOCACHE="+t.TempDir())
		got := w.run(t, env, folder, tool, "mod", "download", "-json", "example.test/fixture@v1.2.3")
		if !strings.Contains(got, `"Version": "v1.2.3"`) || strings.Contains(got, `"Error"`) {
			t.Errorf("%s: go printed %s", scheme, got)
		}
	}
}
