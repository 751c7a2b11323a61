package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/toolshed"
	"github.com/toolshed-cloud/shed/toolshed/auth"
)

// asToolshed makes this test's program the real one.
const asToolshed = "TOOLSHED_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asToolshed) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// program is a toolshed that runs.
type program struct {
	t   *testing.T
	cmd *exec.Cmd
	// out is what it prints, log what it writes to standard error.
	out    *bufio.Reader
	log    string
	client *http.Client
	url    string
	took   time.Duration
}

// start runs the program until it answers.
func start(t *testing.T, dir string, env []string, args ...string) *program {
	t.Helper()
	return startProgram(t, os.Args[0], dir, env, args...)
}

func startProgram(t *testing.T, path, dir string, env []string, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(path, args...), client: http.DefaultClient, log: filepath.Join(t.TempDir(), "log")}
	p.cmd.Dir = t.TempDir()
	p.cmd.Env = append([]string{asToolshed + "=1", "SHED_DATA=" + dir}, env...)
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Stderr = log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill(); p.cmd.Wait() })
	if i := slices.IndexFunc(env, func(e string) bool { return strings.HasPrefix(e, "SHED_SOCKET=") }); i >= 0 {
		p.overSocket(strings.TrimPrefix(env[i], "SHED_SOCKET="))
	} else {
		p.url = strings.TrimPrefix(p.line(), "toolshed is at ")
	}
	if status, text, _ := p.ask("GET", "/api/health", ""); status != http.StatusOK {
		t.Fatalf("health: %d %s", status, text)
	}
	p.took = time.Since(began)
	return p
}

// overSocket reaches the program as the agent does, once its socket is there.
func (p *program) overSocket(socket string) {
	p.url = "http://toolshed"
	p.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		for deadline := time.Now().Add(10 * time.Second); ; {
			c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
			if err == nil || time.Now().After(deadline) {
				return c, err
			}
		}
	}}}
	p.t.Cleanup(p.client.CloseIdleConnections)
}

func (p *program) line() string {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatalf("it prints no line: %v: %s", err, p.logged())
	}
	return strings.TrimSpace(line)
}

func (p *program) logged() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Error(err)
	}
	return string(b)
}

func (p *program) ask(method, path, body string, header ...string) (int, string, http.Header) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := p.client.Do(req)
	if err != nil {
		p.t.Fatalf("%s %s: %v: %s", method, path, err, p.logged())
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// stop ends it as the agent does, and reads what it still printed.
func (p *program) stop() string {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	rest, err := io.ReadAll(p.out)
	if err = errors.Join(err, p.cmd.Wait()); err != nil {
		p.t.Errorf("stopping: %v: %s", err, p.logged())
	}
	return string(rest)
}

var tokenText = regexp.MustCompile(`shed_[a-z2-7]{26}_[a-z2-7]{52}`)

// Alone: a token is printed once, and opens everything; nothing secret and
// nothing of the owner's is logged.
func TestAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := start(t, dir, nil, "--listen", "127.0.0.1:0")
	token := tokenText.FindString(p.line())
	if login := p.line(); !strings.HasSuffix(login, p.url+"/login#"+token) || token == "" {
		t.Fatalf("token %q, %q", token, login)
	}
	bearer := []string{"Authorization", "Bearer " + token}
	if status, _, h := p.ask("PUT", "/api/kv/my-secret-key", "my-secret-value"); status != 401 || h.Get("Shed-Request-Id") == "" {
		t.Errorf("without a token: %d, %v", status, h)
	}
	if status, text, _ := p.ask("PUT", "/api/kv/my-secret-key", "my-secret-value", bearer...); status != 204 {
		t.Errorf("with it: %d %s", status, text)
	}
	if status, _, _ := p.ask("GET", "/api/kv?prefix=my-secret-prefix", "", bearer...); status != 200 {
		t.Errorf("listing: %d", status)
	}
	if status, _, _ := p.ask("GET", "/api/kv", "", auth.OwnerHeader, strings.Repeat("ab", 32)); status != 401 {
		t.Errorf("the agent's word where there is no agent: %d", status)
	}
	if status, text, _ := p.ask("GET", "/nothing/my-secret-path", "", bearer...); status != 404 {
		t.Errorf("%d %s", status, text)
	}
	if rest := p.stop(); rest != "" {
		t.Errorf("it prints more: %q", rest)
	}
	if log := p.logged(); strings.Contains(log, "my-secret") || strings.Contains(log, token) || strings.Count(log, `"msg":"request"`) != 5 {
		t.Errorf("the log: %s", log)
	}

	p = start(t, dir, nil, "--listen", "127.0.0.1:0")
	if _, text, _ := p.ask("GET", "/api/kv/my-secret-key", "", bearer...); text != "my-secret-value" {
		t.Errorf("after a start: %s", text)
	}
	if rest := p.stop(); rest != "" {
		t.Errorf("a second start prints %q", rest)
	}
	p = start(t, dir, nil, "--listen", "127.0.0.1:0", "--new-token")
	another := tokenText.FindString(p.line())
	if status, _, _ := p.ask("GET", "/api/kv", "", "Authorization", "Bearer "+another); status != 200 || another == token {
		t.Errorf("with another token: %d", status)
	}
}

// Behind the agent: its word opens everything, and no token is made.
func TestBehindAgent(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir, []string{"SHED_SOCKET=" + filepath.Join(dir, "socket")})
	if status, text, _ := p.ask("GET", "/api/whoami", "", auth.OwnerHeader, strings.Repeat("ab", 32)); status != 200 || !strings.Contains(text, `"way":"owner"`) {
		t.Errorf("the owner: %d %s", status, text)
	}
	if status, _, _ := p.ask("GET", "/api/whoami", ""); status != 401 {
		t.Errorf("nobody: %d", status)
	}
	if printed := p.stop(); printed != "" {
		t.Errorf("it prints %q", printed)
	}
}

// A browser signs in with the token and keeps it in a cookie that no script
// and no other site has.
func TestBrowser(t *testing.T) {
	p := start(t, t.TempDir(), nil, "--listen", "127.0.0.1:0")
	token := tokenText.FindString(p.line())
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	if status, text, h := p.ask("POST", "/login", "token=wrong", form...); status != 401 || h.Get("Set-Cookie") != "" || !strings.Contains(text, `role="alert"`) {
		t.Errorf("a wrong token: %d", status)
	}
	p.client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, path := range []string{"/", "/reference"} {
		if status, _, h := p.ask("GET", path, ""); status != 303 || h.Get("Location") != "/login" {
			t.Errorf("%s for nobody: %d to %s", path, status, h.Get("Location"))
		}
	}
	status, _, h := p.ask("POST", "/login", "token="+token, form...)
	cookie := h.Get("Set-Cookie")
	if status != 303 || !strings.Contains(cookie, "HttpOnly") || !strings.Contains(cookie, "SameSite=Strict") {
		t.Fatalf("%d, %s", status, cookie)
	}
	signed := []string{"Cookie", strings.Split(cookie, ";")[0]}
	for path, says := range map[string]string{"/": "What runs", "/reference": "/api/kv/{key}", "/login": "Token", "/assets/style.css": "--ink"} {
		status, text, h := p.ask("GET", path, "", signed...)
		if status != 200 || !strings.Contains(text, says) || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %.200s", path, status, text)
		}
		if !strings.HasPrefix(path, "/assets") && !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: policy %q", path, h.Get("Content-Security-Policy"))
		}
		if strings.Contains(text, "http://") || strings.Contains(text, "https://") {
			t.Errorf("%s loads something from elsewhere", path)
		}
	}
	if status, _, _ := p.ask("PUT", "/api/kv/x", "", append(signed, "Sec-Fetch-Site", "cross-site")...); status != 403 {
		t.Errorf("from another site: %d", status)
	}
}

// released builds the program as make build does: what is measured is neither a
// test's program nor one that looks for races.
func released(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "toolshed")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// The program takes under 40 MB on disk and in memory, and starts within 100 ms
// with data there. The best of a few starts is what it takes, the others are
// what else the machine does.
func TestReleased(t *testing.T) {
	const most = 40_000_000
	path, dir := released(t), t.TempDir()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes on disk", info.Size())
	if info.Size() > most {
		t.Errorf("%d bytes on disk", info.Size())
	}
	var took []time.Duration
	var resident []int
	for round := range 3 {
		// How much of the program's file is mapped is the page cache's too, which
		// keeps each copy of it in another way.
		if round > 0 && slices.Min(resident) > most {
			path = copied(t, path)
		} else if round > 0 {
			break
		}
		for range 7 {
			p := startProgram(t, path, dir, nil, "--listen", "127.0.0.1:0")
			took = append(took, p.took)
			resident = append(resident, p.resident())
			p.stop()
		}
	}
	t.Logf("%d bytes resident", resident)
	if least := slices.Min(resident); least == 0 || least > most {
		t.Errorf("%d bytes resident", resident)
	}
	t.Logf("starts take %s", took)
	if slices.Min(took) > 100*time.Millisecond {
		t.Errorf("starts take %s", took)
	}
}

func copied(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again := path + "+"
	if err := os.WriteFile(again, b, 0o700); err != nil {
		t.Fatal(err)
	}
	return again
}

// resident is how much of the memory the program has.
func (p *program) resident() int {
	t := p.t
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Skipf("no /proc: %v", err)
	}
	found := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(b)
	if found == nil {
		t.Fatalf("no size: %s", b)
	}
	kib, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

func TestUsage(t *testing.T) {
	env := func(pairs ...string) func(string) (string, bool) {
		return func(name string) (string, bool) {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1], true
				}
			}
			return "", false
		}
	}
	for _, c := range []struct {
		args []string
		env  []string
		want settings
		err  error
	}{
		{nil, []string{"SHED_DATA", "d"}, settings{data: "d", listen: defaultListen}, nil},
		{nil, []string{"SHED_DATA", "d", "SHED_LISTEN", "a:1", "SHED_CONFIG", "f"}, settings{data: "d", listen: "a:1", config: "f"}, nil},
		{[]string{"--data=e", "--listen=b:2", "--config", "g"}, []string{"SHED_DATA", "d", "SHED_LISTEN", "a:1", "SHED_CONFIG", "f"}, settings{data: "e", listen: "b:2", config: "g"}, nil},
		{nil, []string{"SHED_DATA", "d", "SHED_SOCKET", "s"}, settings{data: "d", socket: "s"}, nil},
		{nil, []string{"SHED_DATA", "d", "SHED_SOCKET", "s", "SHED_RELEASE", "1", "SHED_EPOCH", "2", "SHED_HARDWARE_REPORTS", "3"}, settings{data: "d", socket: "s", machine: toolshed.Machine{Release: "1", Epoch: "2", HardwareReports: "3"}}, nil},
		{nil, []string{"SHED_DATA", "d", "SHED_RELEASE", "1"}, settings{data: "d", listen: defaultListen}, nil},
		{nil, []string{"SHED_DATA", "d", "SHED_SOCKET", "s", "SHED_LISTEN", "a:1"}, settings{}, errUsage},
		{[]string{"--new-token"}, []string{"SHED_DATA", "d", "SHED_SOCKET", "s"}, settings{}, errUsage},
		{nil, nil, settings{}, errUsage},
		{[]string{"serve"}, []string{"SHED_DATA", "d"}, settings{}, errUsage},
		{[]string{"--nothing"}, []string{"SHED_DATA", "d"}, settings{}, errUsage},
		{[]string{"--help"}, nil, settings{}, flag.ErrHelp},
	} {
		got, err := parse(c.args, env(c.env...), io.Discard)
		if !errors.Is(err, c.err) || (err == nil && got != c.want) {
			t.Errorf("%v, %v: %+v, error %v", c.args, c.env, got, err)
		}
	}
}

// What does not start says why, and leaves nothing.
func TestDoesNotStart(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		args   []string
		status int
		says   string
	}{
		"an unknown key":        {"version: 1\nnothing: 1\n", nil, 1, "unknown: nothing (line 2)"},
		"a wrong value":         {"version: 1\nfetch: {allow: [\"a b\"]}\n", nil, 1, "fetch.allow[0]"},
		"a missing file":        {"", []string{"--config", "none.yaml"}, 1, "none.yaml"},
		"an unknown flag":       {"", []string{"--nothing"}, 2, "hint:"},
		"an address of others'": {"", []string{"--listen", "203.0.113.1:1"}, 1, "listening"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.config != "" {
				if err := os.WriteFile(filepath.Join(dir, "toolshed.yaml"), []byte(c.config), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			// One that does start does not end by itself.
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], append([]string{"--data", dir, "--listen", "127.0.0.1:0"}, c.args...)...)
			cmd.Env = []string{asToolshed + "=1"}
			out, err := cmd.CombinedOutput()
			exit, ok := errors.AsType[*exec.ExitError](err)
			if !ok || exit.ExitCode() != c.status || !strings.Contains(string(out), c.says) || tokenText.Match(out) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
