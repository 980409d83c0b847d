package httplog

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// The lines of net/http have the debug level, and a handler's panic that of errors, once.
func TestLevels(t *testing.T) {
	for level, want := range map[zerolog.Level]string{
		zerolog.DebugLevel: "debug",
		zerolog.InfoLevel:  "",
		zerolog.ErrorLevel: "",
	} {
		var out buffer
		log := zerolog.New(&out).Level(level)
		New(log).Print("http: TLS handshake error\n")
		got := out.String()
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("at level %v: %q", level, got)
		}
	}
}

func TestRecover(t *testing.T) {
	for name, test := range map[string]struct {
		reason any
		want   int // lines
	}{
		"a fault":   {"a fault", 1},
		"an abort":  {http.ErrAbortHandler, 0},
		"no panics": {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var out buffer
			log := zerolog.New(&out).Level(zerolog.ErrorLevel)
			server := httptest.NewUnstartedServer(Recover(log, http.HandlerFunc(
				func(http.ResponseWriter, *http.Request) {
					if test.reason != nil {
						panic(test.reason)
					}
				})))
			server.Config.ErrorLog = New(log)
			server.Start()
			response, err := server.Client().Get(server.URL)
			if err == nil {
				response.Body.Close()
			}
			server.Close()
			if (err == nil) != (test.reason == nil) {
				t.Errorf("the request: %v", err)
			}
			got := out.String()
			if strings.Count(got, "\n") != test.want ||
				test.want > 0 &&
					(!strings.Contains(got, "a fault") || !strings.Contains(got, "httplog_test.go")) {
				t.Errorf("logged %q", got)
			}
		})
	}
}
