package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"culvert/internal/testnet"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs testdata/*.txtar. In addition to testscript's own commands they have
//
//	start NAME ARG…        run culvert ARG… in the background until its ready line, and set
//	                       $NAME_URL, $NAME_LISTEN, $NAME_PORT, $NAME_SOCKS, $NAME_PAC,
//	                       $NAME_FORWARD, $NAME_REVERSE and $NAME_KEY from it
//	signal NAME SIGNAL     send it a signal: HUP, INT, TERM or USR1
//	await NAME REGEXP      wait until its standard error matches
//	exited NAME STATUS     wait until it exits, with this status; stdout and stderr are then its
//	                       output
//	setenv VAR VALUE       set a variable for what start, capture and transcript run; env is for exec
//	capture VAR ARG…       run culvert ARG…, which must succeed, and set $VAR to what it prints
//	transcript FILE        run the commands in FILE and compare what they print and their exit status
//	hold ADDR              open a connection to the page through ADDR and keep it open
//
// and the variables $PAGE, the URL of a page, and $NOBODY, a loopback address that refuses
// connections.
func TestScripts(t *testing.T) {
	syscall.Umask(0o022) // files that a group may write to are refused
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		Setup:               setUpScript,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start":      withScript(2, (*script).start),
			"signal":     withScript(2, (*script).signal),
			"await":      withScript(2, (*script).await),
			"exited":     withScript(2, (*script).exited),
			"setenv":     withScript(2, (*script).setenv),
			"capture":    withScript(2, (*script).capture),
			"transcript": withScript(1, (*script).transcript),
			"hold":       withScript(1, (*script).hold),
		},
	})
}

// script is the state of one running script.
type script struct {
	dir       string
	vars      map[string]string // for shells; testscript has them too
	processes map[string]*process
	page      string
}

type scriptKey struct{}

func setUpScript(env *testscript.Env) error {
	s := &script{dir: env.WorkDir, vars: map[string]string{}, processes: map[string]*process{}}
	env.Values[scriptKey{}] = s
	set := func(name, value string) {
		env.Setenv(name, value)
		s.vars[name] = value
	}
	set("PATH", env.Getenv("PATH"))
	set("WORK", env.WorkDir)
	set("HOME", filepath.Join(env.WorkDir, "home"))
	set("XDG_CONFIG_HOME", "")
	runtimeDir, err := os.MkdirTemp("", "culvert-test") // the path of a socket is short
	if err != nil {
		return err
	}
	env.Defer(func() { os.RemoveAll(runtimeDir) })
	set("XDG_RUNTIME_DIR", runtimeDir)
	set("CULVERT_LOG_FORMAT", "console")
	set("CULVERT_NO_AUTO_RELOAD", "true") // scripts that change files show what a signal does
	set("GORACE", "atexit_sleep_ms=0")    // the default delays each exit by a second
	page := httptest.NewServer(http.HandlerFunc(servePage))
	env.Defer(func() {
		page.CloseClientConnections()
		page.Close()
	})
	set("PAGE", page.URL+"/")
	s.page = page.Listener.Addr().String()
	set("PAGE_ADDRESS", s.page)
	set("PAGE_PORT", strconv.Itoa(page.Listener.Addr().(*net.TCPAddr).Port))
	nobody, free, err := testnet.BindRefusing()
	if err != nil {
		return err
	}
	env.Defer(free)
	set("NOBODY", nobody.String())
	return nil
}

// servePage is a web site with one page, and /held, whose response begins and doesn't end before
// the client goes.
func servePage(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/":
		fmt.Fprintln(w, "a page")
	case "/held":
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	default:
		http.NotFound(w, r)
	}
}

// withScript turns a method of script into a command with at least that many arguments.
func withScript(
	arguments int, command func(*script, *testscript.TestScript, []string),
) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < arguments {
			ts.Fatalf("want %d arguments, and no !", arguments)
		}
		command(ts.Value(scriptKey{}).(*script), ts, args)
	}
}

func (s *script) set(ts *testscript.TestScript, name, value string) {
	ts.Setenv(name, value)
	s.vars[name] = value
}

func (s *script) environ() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CULVERT_") {
			env = append(env, v)
		}
	}
	for name, value := range s.vars {
		env = append(env, name+"="+value)
	}
	return env
}

func (s *script) start(ts *testscript.TestScript, args []string) {
	name := args[0]
	p, err := startProcess(ts.MkAbs("."), s.environ(), append([]string{"culvert"}, args[1:]...), nil)
	ts.Check(err)
	s.processes[name] = p
	ts.Defer(p.kill)
	ready, err := p.awaitReady()
	ts.Check(err)
	s.set(ts, name+"_KEY", ready.PublicKey)
	s.set(ts, name+"_SOCKS", ready.Socks)
	s.set(ts, name+"_PAC", ready.PAC)
	if len(ready.Listen) > 0 {
		s.set(ts, name+"_LISTEN", ready.Listen[0])
		s.set(ts, name+"_URL", "ws://"+ready.Listen[0]+"/")
		s.set(ts, name+"_PORT", ready.Listen[0][strings.LastIndex(ready.Listen[0], ":")+1:])
	}
	if len(ready.Forwards) > 0 {
		s.set(ts, name+"_FORWARD", ready.Forwards[0])
	}
	if len(ready.Reverse) > 0 {
		s.set(ts, name+"_REVERSE", ready.Reverse[0])
	}
}

func (s *script) process(ts *testscript.TestScript, name string) *process {
	p := s.processes[name]
	if p == nil {
		ts.Fatalf("%s was not started", name)
	}
	return p
}

func (s *script) signal(ts *testscript.TestScript, args []string) {
	signal, ok := map[string]syscall.Signal{
		"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "TERM": syscall.SIGTERM,
		"USR1": syscall.SIGUSR1, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT,
	}[args[1]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[1])
	}
	ts.Check(s.process(ts, args[0]).cmd.Process.Signal(signal))
}

func (s *script) await(ts *testscript.TestScript, args []string) {
	p, pattern := s.process(ts, args[0]), regexp.MustCompile(args[1])
	if text := p.stderr.await(pattern.MatchString, p.ended); !pattern.MatchString(text) {
		ts.Fatalf("%s wrote:\n%s", args[0], text)
	}
}

func (s *script) exited(ts *testscript.TestScript, args []string) {
	p := s.process(ts, args[0])
	status, err := p.wait()
	fmt.Fprint(ts.Stdout(), p.stdout)
	fmt.Fprint(ts.Stderr(), p.stderr)
	ts.Check(err)
	if strconv.Itoa(status) != args[1] {
		ts.Fatalf("%s exits with %d, want %s", args[0], status, args[1])
	}
}

func (s *script) setenv(ts *testscript.TestScript, args []string) { s.set(ts, args[0], args[1]) }

func (s *script) capture(ts *testscript.TestScript, args []string) {
	cmd := exec.Command("culvert", args[1:]...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), s.environ()
	cmd.Stderr = ts.Stderr()
	output, err := cmd.Output()
	ts.Check(err)
	s.set(ts, args[0], strings.TrimSpace(string(output)))
}

func (s *script) transcript(ts *testscript.TestScript, args []string) {
	steps, err := parseTranscript(ts.ReadFile(args[0]))
	ts.Check(err)
	sh := &shell{dir: ts.MkAbs("."), env: s.environ()}
	for _, step := range steps {
		got, err := sh.run(step.command)
		if err == nil {
			err = differ(mask(got), mask(os.Expand(step.want, s.expand)))
		}
		if err != nil {
			ts.Fatalf("$ %s%v", step.command, err)
		}
	}
}

// expand returns a variable's value, or the reference itself if the script has not set it.
func (s *script) expand(name string) string {
	if value, ok := s.vars[name]; ok {
		return value
	}
	if name == "$" { // written $$
		return name
	}
	return "$" + name
}

// hold returns once the response has begun, so that there is a stream through the tunnel.
func (s *script) hold(ts *testscript.TestScript, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", args[0])
	ts.Check(err)
	ts.Defer(func() { conn.Close() })
	deadline, _ := ctx.Deadline()
	ts.Check(conn.SetDeadline(deadline))
	_, err = fmt.Fprintf(conn, "GET /held HTTP/1.1\r\nHost: %s\r\n\r\n", s.page)
	ts.Check(err)
	_, err = conn.Read(make([]byte, 1))
	ts.Check(err)
}

// process is a culvert in the background.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr *record
	ended          chan struct{} // closed when it has ended and all it wrote is recorded
	err            error         // of cmd.Wait; set when ended is closed
}

// startProcess runs a command with a controlling terminal, which is also its standard input, or
// without one if terminal is nil.
func startProcess(dir string, env, args []string, terminal *os.File) (*process, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, env
	if terminal != nil {
		cmd.Stdin = terminal
	}
	return startSession(cmd, terminal != nil)
}

// startSession runs a command in a session of its own. If it has a terminal, that is its standard
// input. Its other streams are recorded unless they are set.
func startSession(cmd *exec.Cmd, terminal bool) (*process, error) {
	p := &process{
		cmd: cmd, stdout: newRecord(), stderr: newRecord(), ended: make(chan struct{}),
	}
	if cmd.Stdout == nil {
		cmd.Stdout = p.stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = p.stderr
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: terminal}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
	}()
	return p, nil
}

// awaitReady waits for the line that --print-ready prints.
func (p *process) awaitReady() (readyLine, error) {
	line := p.stdout.await(func(text string) bool { return strings.HasSuffix(text, "\n") }, p.ended)
	var ready readyLine
	if err := json.Unmarshal([]byte(line), &ready); err != nil {
		return ready, fmt.Errorf("not ready: %w; standard output %q, standard error\n%s",
			err, line, p.stderr)
	}
	return ready, nil
}

// startReady starts a culvert that ends with the test, and waits for its ready line.
func startReady(t *testing.T, dir string, env []string, args ...string) readyLine {
	t.Helper()
	p, err := startProcess(dir, env, append([]string{"culvert"}, args...), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	ready, err := p.awaitReady()
	if err != nil {
		t.Fatal(err)
	}
	return ready
}

// wait waits for the process to end and returns its exit status, -1 if a signal killed it.
func (p *process) wait() (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	select {
	case <-p.ended:
	case <-ctx.Done():
		return 0, fmt.Errorf("still running after %v", stepTimeout)
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		return 0, p.err
	}
	return p.cmd.ProcessState.ExitCode(), nil
}

// kill ends the process and those of its children that stayed in its group, which would keep its
// pipes open.
func (p *process) kill() {
	select {
	case <-p.ended:
	default:
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // fails when they end just now
		<-p.ended
	}
}

// record keeps what a process writes, and wakes whoever waits for it.
type record struct {
	mu      sync.Mutex // guards all below
	text    strings.Builder
	changed chan struct{} // closed and replaced at each write
}

func newRecord() *record { return &record{changed: make(chan struct{})} }

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.changed)
	r.changed = make(chan struct{})
	return r.text.Write(p)
}

func (r *record) String() string {
	text, _ := r.get()
	return text
}

func (r *record) get() (string, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String(), r.changed
}

// await waits until the text is enough, the process has ended, or stepTimeout has passed, and
// returns the text.
func (r *record) await(enough func(string) bool, ended <-chan struct{}) string {
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	for {
		text, changed := r.get()
		if enough(text) {
			return text
		}
		select {
		case <-changed:
		case <-ended:
			return r.String()
		case <-ctx.Done():
			return text
		}
	}
}
