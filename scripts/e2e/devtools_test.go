//go:build linux

package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/internal/testnet"

	"github.com/gorilla/websocket"
)

// devtools drives a page in Chromium by the DevTools protocol:
// https://chromedevtools.github.io/devtools-protocol/.
type devtools struct {
	t    *testing.T
	conn *websocket.Conn
	next int

	mu         sync.Mutex
	answers    map[int]chan devtoolsMessage
	complaints []string // of the console, and exceptions
}

// devtoolsMessage is an answer or an event.
type devtoolsMessage struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// startDevtools opens an empty page in Chromium on a host, until the test ends.
func startDevtools(t *testing.T, h *host) *devtools {
	t.Helper()
	profile := filepath.Join(t.TempDir(), "profile")
	browser := start(t, "chromium",
		h.command(t, command(cleanEnv(t), t.TempDir(), needProgram(t, "chromium"),
			append(chromiumFlags(profile), "--no-proxy-server", "--remote-debugging-port=0",
				"about:blank")...)))
	t.Cleanup(func() { stopBrowser(t, browser, profile) })
	var port string
	testnet.Poll(t, pageTime, "Chromium listens for DevTools", func() bool {
		text, _ := os.ReadFile(filepath.Join(profile, "DevToolsActivePort"))
		var found bool
		port, _, found = strings.Cut(string(text), "\n")
		return found
	})
	dial := func(context.Context, string, string) (net.Conn, error) {
		return h.dial("127.0.0.1:" + port)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	var page string
	testnet.Poll(t, pageTime, "Chromium has a page", func() bool {
		response, err := client.Get("http://127.0.0.1:" + port + "/json/list")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		var targets []struct {
			Type string `json:"type"`
			URL  string `json:"webSocketDebuggerUrl"`
		}
		json.NewDecoder(response.Body).Decode(&targets)
		for _, target := range targets {
			if target.Type == "page" {
				page = target.URL
			}
		}
		return page != ""
	})
	conn, _, err := (&websocket.Dialer{NetDialContext: dial}).Dial(page, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &devtools{t: t, conn: conn, answers: make(map[int]chan devtoolsMessage)}
	var reading sync.WaitGroup
	reading.Go(d.read)
	t.Cleanup(func() {
		conn.Close()
		reading.Wait()
	})
	d.call("Runtime.enable", nil)
	d.call("Log.enable", nil)
	return d
}

// read handles messages until the connection ends.
func (d *devtools) read() {
	for {
		var message devtoolsMessage
		if d.conn.ReadJSON(&message) != nil {
			return
		}
		d.mu.Lock()
		switch {
		case message.ID != 0:
			d.answers[message.ID] <- message
		case message.Method == "Runtime.exceptionThrown",
			message.Method == "Runtime.consoleAPICalled", message.Method == "Log.entryAdded":
			d.complaints = append(d.complaints, message.Method+": "+string(message.Params))
		}
		d.mu.Unlock()
	}
}

// call calls a method and returns its result.
func (d *devtools) call(method string, params any) json.RawMessage {
	d.t.Helper()
	answer := make(chan devtoolsMessage, 1)
	d.mu.Lock()
	d.next++
	id := d.next
	d.answers[id] = answer
	d.mu.Unlock()
	request := map[string]any{"id": id, "method": method, "params": params}
	if err := d.conn.WriteJSON(request); err != nil {
		d.t.Fatal(err)
	}
	select {
	case message := <-answer:
		if message.Error != nil {
			d.t.Fatalf("%s: %s", method, message.Error)
		}
		return message.Result
	case <-time.After(pageTime):
		d.t.Fatalf("%s: no answer", method)
		return nil
	}
}

// eval evaluates a JavaScript expression in the page, and returns its value as text.
func (d *devtools) eval(expression string) string {
	d.t.Helper()
	var got struct {
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
	}
	result := d.call("Runtime.evaluate",
		map[string]any{"expression": "String(" + expression + ")", "returnByValue": true})
	if err := json.Unmarshal(result, &got); err != nil {
		d.t.Fatal(err)
	}
	text, _ := got.Result.Value.(string)
	return text
}

// await waits until an expression has a value.
func (d *devtools) await(what, expression, want string) {
	d.t.Helper()
	testnet.Poll(d.t, pageTime, what, func() bool { return d.eval(expression) == want })
}

// changes waits until the value of an expression is another one than now.
func (d *devtools) changes(what, expression string) {
	d.t.Helper()
	before := d.eval(expression)
	testnet.Poll(d.t, pageTime, what+" changes", func() bool { return d.eval(expression) != before })
}

// resize sets the size of the page and the colours that it prefers.
func (d *devtools) resize(width, height int, scheme string) {
	d.t.Helper()
	d.call("Emulation.setDeviceMetricsOverride", map[string]any{
		"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
	})
	d.call("Emulation.setEmulatedMedia", map[string]any{
		"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}},
	})
}

// screenshot writes a picture of the page to a file.
func (d *devtools) screenshot(path string) {
	d.t.Helper()
	var got struct {
		Data string `json:"data"`
	}
	if err := json.Unmarshal(d.call("Page.captureScreenshot", nil), &got); err != nil {
		d.t.Fatal(err)
	}
	picture, err := base64.StdEncoding.DecodeString(got.Data)
	if err == nil {
		err = os.WriteFile(path, picture, 0o644)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// complained returns what the page has written to the console, and its exceptions.
func (d *devtools) complained() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.complaints
}
