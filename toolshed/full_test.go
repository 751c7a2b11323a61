package toolshed_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/toolshed-cloud/shed/toolshed/kv"
)

// serveEnv makes this program a toolshed on the directory that it names, so
// that a test can kill one.
const serveEnv = "TOOLSHED_TEST_DATA"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveEnv); dir != "" {
		serveDirectory(dir)
		return
	}
	if os.Getenv(decryptEnv) != "" {
		if err := decrypt(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serveDirectory serves until standard input ends, and then closes the store.
func serveDirectory(dir string) {
	handler, close, err := open(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "opening:", err)
		os.Exit(1)
	}
	s := httptest.NewServer(handler)
	fmt.Println(s.URL)
	io.Copy(io.Discard, os.Stdin)
	s.Close()
	if err := close(); err != nil {
		fmt.Fprintln(os.Stderr, "closing:", err)
		os.Exit(1)
	}
}

// process is a toolshed in a process of its own.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.Closer
	url   string
}

func start(t *testing.T, dir string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveEnv+"="+dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the toolshed does not start: %v", err)
	}
	return &process{t: t, cmd: cmd, stdin: stdin, url: strings.TrimSpace(line)}
}

func (p *process) kill() { p.cmd.Process.Kill(); p.cmd.Wait() }

func (p *process) stop() {
	p.t.Helper()
	p.stdin.Close()
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("stopping: %v", err)
	}
}

func (p *process) want(status int, method, path, body string, header ...string) string {
	p.t.Helper()
	got, text, h := ask(p.t, p.url, method, path, body, header...)
	if got != status {
		p.t.Errorf("%s %s: %d %.300s, want %d", method, path, got, text, status)
	}
	if status == http.StatusInsufficientStorage {
		wantProblem(p.t, text, h, status, "disk-full")
	}
	return text
}

func wantProblem(t *testing.T, text string, h http.Header, status int, code string) {
	t.Helper()
	var problem struct {
		Type, Title, Code, Detail string
		Status                    int
	}
	err := json.Unmarshal([]byte(text), &problem)
	if err != nil || h.Get("Content-Type") != "application/problem+json" || problem.Status != status ||
		problem.Title == "" || problem.Code != code || problem.Detail == "" {
		t.Errorf("no problem document of %d %s: %v: %s: %.300s", status, code, err, h.Get("Content-Type"), text)
	}
}

// A full disk refuses writing, and nothing but writing: deleting works, helps,
// and survives a stop and a kill.
func TestFullDisk(t *testing.T) {
	for name, mount := range map[string]func(*testing.T) string{"tmpfs": mountTmpfs, "ext4": mountExt4} {
		t.Run(name, func(t *testing.T) { fullDisk(t, mount(t)) })
	}
}

func fullDisk(t *testing.T, dir string) {
	value := func(i int) string { return strings.Repeat(fmt.Sprintf("%07d ", i), kv.MaxValueBytes/8-1) }
	key := func(i int) string { return fmt.Sprintf("/api/kv/v%03d", i) }
	p := start(t, dir)
	stored := 0
	for ; stored < 64; stored++ {
		if status, _, _ := ask(t, p.url, "PUT", key(stored), value(stored)); status != http.StatusNoContent {
			break
		}
	}
	if stored < 4 || stored == 64 {
		t.Fatalf("%d values were stored before the disk was full", stored)
	}
	p.want(507, "PUT", key(stored), value(stored))
	fill(t, dir)
	p.want(507, "PUT", key(stored), value(stored))
	p.want(204, "DELETE", key(0), "")
	p.want(404, "GET", key(0), "")
	p.want(204, "PUT", key(0), value(100))
	p.want(507, "PUT", key(stored), value(stored))

	for i, stop := range []func(*process){(*process).stop, (*process).kill, (*process).kill} {
		stop(p)
		// What the process gave back is taken by somebody else.
		fill(t, dir)
		p = start(t, dir)
		for j := range stored {
			want := value(j)
			if j <= i {
				want = value(100 + j)
			}
			if got := p.want(200, "GET", key(j), ""); got != want {
				t.Errorf("%s is lost after stop %d", key(j), i)
			}
		}
		p.want(507, "PUT", key(stored), value(stored))
		p.want(204, "DELETE", key(i+1), "")
		p.want(204, "PUT", key(i+1), value(101+i))
	}
}

// fill writes until nothing more fits.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "filler"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 1<<16)
	for len(block) > 0 {
		if _, err = f.Write(block); err == nil {
			err = f.Sync()
		}
		if err != nil {
			block = block[:len(block)/2]
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func mountTmpfs(t *testing.T) string { return mount(t, "tmpfs", "-t", "tmpfs", "-o", "size=16m") }

// mountExt4 mounts what the agent makes of a data disk, on a loop device.
func mountExt4(t *testing.T) string { return mount(t, ext4Image(t), "-o", "loop") }

// ext4Image is a file that is a disk.
func ext4Image(t *testing.T) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 24<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", image).CombinedOutput(); err != nil {
		t.Skipf("mke2fs: %v: %s", err, out)
	}
	return image
}

func mount(t *testing.T, source string, options ...string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: a file system cannot be mounted")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", append(options, source, dir)...).CombinedOutput(); err != nil {
		t.Skipf("mounting is not possible here: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// On a full disk each API refuses what grows and does what makes room, which a
// kill does not take back.
func TestFullDiskOfEachAPI(t *testing.T) {
	dir := mountTmpfs(t)
	p := start(t, dir)
	var token struct{ ID string }
	fromJSON(t, p.want(201, "POST", "/api/auth/tokens", `{"name":"n","scopes":["kv:read"]}`, "Content-Type", "application/json"), &token)
	for _, body := range []string{"acknowledged", "deleted", "stays"} {
		p.want(201, "POST", "/api/queue/q", body)
	}
	var got struct {
		Messages []struct{ ID, Receipt string }
	}
	fromJSON(t, p.want(200, "POST", "/api/queue/q/receive?max=2&lease=1h", ""), &got)
	const documents = "/api/data/collections/c/documents/"
	large := `{"text":"` + strings.Repeat("x", 500_000) + `"}`
	kind := []string{"Content-Type", "application/json"}
	stored := 0
	for ; stored < 64; stored++ {
		if status, _, _ := ask(t, p.url, "PUT", fmt.Sprint(documents, stored), large, kind...); status != http.StatusOK {
			break
		}
	}
	for i := 0; i < 64; i++ {
		if status, _, _ := ask(t, p.url, "POST", "/api/queue/full", large, kind...); status != http.StatusCreated {
			break
		}
	}
	fill(t, dir)
	p.want(507, "POST", "/api/queue/full", large, kind...)
	p.want(507, "PUT", documents+"more", large, kind...)
	p.want(507, "POST", "/api/data/transactions", `{"operations":[{"op":"delete","collection":"c","id":"0"},
		{"op":"put","collection":"c","id":"more","document":`+large+`},{"op":"put","collection":"c","id":"evenmore","document":`+large+`}]}`, kind...)

	if len(got.Messages) != 2 || stored < 4 || stored == 64 {
		t.Fatalf("%d messages, %d documents", len(got.Messages), stored)
	}
	p.want(204, "POST", "/api/queue/q/messages/"+got.Messages[0].ID+"/ack?receipt="+got.Messages[0].Receipt, "")
	p.want(204, "DELETE", "/api/queue/q/messages/"+got.Messages[1].ID, "")
	p.want(204, "DELETE", documents+"0", "")
	p.want(204, "DELETE", "/api/auth/tokens/"+token.ID, "")
	p.want(200, "PUT", documents+"1", `{"text":"`+strings.Repeat("y", 500_000)+`"}`, kind...)
	p.kill()
	fill(t, dir)
	p = start(t, dir)
	p.want(404, "GET", documents+"0", "")
	for i := 2; i < stored; i++ {
		p.want(200, "GET", fmt.Sprint(documents, i), "")
	}
	if text := p.want(200, "GET", documents+"1", ""); !strings.Contains(text, "yyyy") {
		t.Error("a document that was written into what deleting left is the old one")
	}
	p.want(404, "DELETE", "/api/auth/tokens/"+token.ID, "")
	p.want(404, "POST", "/api/queue/q/messages/"+got.Messages[1].ID+"/retry", "")
	if text := p.want(200, "GET", "/api/queue/q", ""); strings.Count(text, `"id"`) != 1 {
		t.Errorf("left of three messages: %.300s", text)
	}
}

func fromJSON(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v: %.300s", err, text)
	}
}
