//go:build linux

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// siteHost is the name of a server on the remote's host. It resolves only there.
const siteHost = "site.culvert.test"

// runWorld is a remote and web servers on a host of their own, with what `culvert run` needs to
// connect.
type runWorld struct {
	server, client identity
	remote         *node
	ca             string // file of the servers' self-signed certificate

	mu       sync.Mutex // guards requests
	requests []string   // received by the servers, as "METHOD URL"
}

// startRunWorld serves handler on siteHost over http:// and https://.
func startRunWorld(t *testing.T, handler http.Handler) *runWorld {
	t.Helper()
	far := newHost(t, "127.0.1.1 "+siteHost+"\n")
	w := &runWorld{server: newIdentity(t), client: newIdentity(t)}
	for address, secure := range map[string]bool{"127.0.1.1:80": false, "127.0.1.1:443": true} {
		site := httptest.NewUnstartedServer(http.HandlerFunc(func(
			rw http.ResponseWriter, r *http.Request,
		) {
			w.mu.Lock()
			w.requests = append(w.requests, r.Method+" "+r.URL.String())
			w.mu.Unlock()
			handler.ServeHTTP(rw, r)
		}))
		site.Listener.Close()
		site.Listener = far.listen(t, address)
		if secure {
			site.TLS, w.ca = siteTLS(t)
			site.StartTLS()
		} else {
			site.Start()
		}
		t.Cleanup(func() {
			site.CloseClientConnections()
			site.Close()
		})
	}
	authorized := writeFile(t, "authorized_keys", w.client.key+"\n")
	w.remote = startNode(t, "remote", far.command(t, culvert(t,
		remoteArgs(w.server, "--listen", far.addr.String()+":0", "--authorized-keys", authorized)...)))
	return w
}

// siteTLS makes a self-signed certificate for siteHost, and returns the CA file for clients.
func siteTLS(t *testing.T) (*tls.Config, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: siteHost},
		DNSNames:  []string{siteHost},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, "ca.pem",
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der},
		PrivateKey: key}}}, file
}

// run runs a command under `culvert run`, fails the test unless it succeeds, and returns its
// output.
func (w *runWorld) run(t *testing.T, env []string, folder string, argv ...string) string {
	t.Helper()
	args := append([]string{"run", "--key", w.client.file, "--remote-key", w.server.key,
		w.remote.url(), "--"}, argv...)
	env = append(env, "CURL_CA_BUNDLE="+w.ca, "GIT_SSL_CAINFO="+w.ca, "npm_config_cafile="+w.ca)
	return must(t, gitTime, command(env, folder, program, args...))
}

// got reports whether a server has received a request that begins with request.
func (w *runWorld) got(request string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.requests {
		if strings.HasPrefix(r, request) {
			return true
		}
	}
	return false
}

func TestRunCurl(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	mux := http.NewServeMux()
	mux.HandleFunc("GET /random/{size}", serveRandom)
	mux.HandleFunc("PUT /sum", serveSum)
	w := startRunWorld(t, mux)
	want := sum(t, randomBytes(size))
	for _, scheme := range []string{"http://", "https://"} {
		curl := []string{needProgram(t, "curl"), "-q", "--silent", "--show-error", "--fail",
			scheme + siteHost}
		curl[len(curl)-1] += "/random/" + strconv.Itoa(size)
		if got := sum(t, strings.NewReader(w.run(t, cleanEnv(t), "", curl...))); got != want {
			t.Errorf("%s: got %s, want %s", scheme, got, want)
		}
		curl[len(curl)-1] = scheme + siteHost + "/sum"
		args := append([]string{"sh", "-c", `head -c 1048576 random | "$@"`, "sh"},
			append(curl, "--upload-file", "-")...)
		folder := t.TempDir()
		file, err := os.Create(filepath.Join(folder, "random"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.ReadFrom(randomBytes(size)); err != nil {
			t.Fatal(err)
		}
		file.Close()
		if got := w.run(t, cleanEnv(t), folder, args...); got != want {
			t.Errorf("%s: the server got %s, want %s", scheme, got, want)
		}
	}
}

// git clones over https:// from git's own server program, and pushes.
func TestRunGit(t *testing.T) {
	t.Parallel()
	g := newGitWorld(t)
	folder := t.TempDir()
	origin, clone := filepath.Join(folder, "origin"), filepath.Join(folder, "clone")
	g.makeRepository(origin)
	g.run(origin, "config", "http.receivepack", "true")
	backend := filepath.Join(strings.TrimSpace(g.run("", "--exec-path")), "git-http-backend")
	w := startRunWorld(t, &cgi.Handler{
		Path: backend,
		Env:  append([]string{"GIT_PROJECT_ROOT=" + folder, "GIT_HTTP_EXPORT_ALL=1"}, g.env...),
	})
	git := needProgram(t, "git")
	w.run(t, g.env, folder, git, "clone", "-q", "https://"+siteHost+"/origin", clone)
	g.run(clone, "fsck", "--full", "--strict")
	if got, want := g.refs(clone, "refs/remotes/origin/"), g.refs(origin, "refs/heads/"); got != want {
		t.Errorf("the clone has\n%s, want\n%s", got, want)
	}
	if err := os.WriteFile(filepath.Join(clone, "answer"), []byte("from the clone\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	g.run(clone, "add", "answer")
	g.run(clone, "commit", "-q", "-m", "answer")
	w.run(t, g.env, clone, git, "push", "-q", "origin", "main:answer")
	if got, want := g.run(origin, "rev-parse", "answer"), g.run(clone, "rev-parse",
		"main"); got != want {
		t.Errorf("after the push: got %s, want %s", got, want)
	}
}

// packument is an npm registry's document about a package.
const packument = `{"_id":"culvert-fixture","name":"culvert-fixture",
	"dist-tags":{"latest":"1.2.3"},"versions":{"1.2.3":{
	"name":"culvert-fixture","version":"1.2.3","description":"through the tunnel",
	"dist":{"tarball":"https://` + siteHost + `/culvert-fixture/-/culvert-fixture-1.2.3.tgz",
		"shasum":"da39a3ee5e6b4b0d3255bfef95601890afd80709"}}},
	"time":{"modified":"2026-01-01T00:00:00.000Z","1.2.3":"2026-01-01T00:00:00.000Z"}}`

// npm downloads from a registry that only the remote can reach.
func TestRunNPM(t *testing.T) {
	t.Parallel()
	w := startRunWorld(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/culvert-fixture" {
			http.NotFound(rw, r)
			return
		}
		rw.Header().Set("Content-Type", "application/json")
		fmt.Fprint(rw, packument)
	}))
	for _, scheme := range []string{"http://", "https://"} {
		env := append(cleanEnv(t), "npm_config_registry="+scheme+siteHost+"/",
			"npm_config_update_notifier=false", "npm_config_fetch_retries=0")
		got := w.run(t, env, t.TempDir(), needProgram(t, "npm"), "view", "culvert-fixture", "version",
			"description", "--json")
		if !strings.Contains(got, `"version": "1.2.3"`) || !strings.Contains(got, "through the tunnel") {
			t.Errorf("%s: npm printed %s", scheme, got)
		}
	}
	if !w.got("GET /culvert-fixture") {
		t.Error("the registry received no request")
	}
}
