package supervise_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/agent/supervise"
)

// leakedFile is open in the supervisor's process, for its children too.
const leakedFile = "/etc/hostname"

// probe is a payload that tries what it may not, and prints what came of it.
func probe() {
	raw := func(number uintptr, args ...uintptr) string {
		args = append(args, make([]uintptr, 6)...)
		_, _, errno := syscall.RawSyscall6(number, args[0], args[1], args[2], args[3], args[4], args[5])
		return unix.ErrnoName(errno)
	}
	outcome := map[string]string{
		"io_uring_setup": raw(unix.SYS_IO_URING_SETUP, 1),
		"keyctl":         raw(unix.SYS_KEYCTL, 0),
		"bpf":            raw(unix.SYS_BPF, 0),
		"unshare user":   raw(unix.SYS_UNSHARE, unix.CLONE_NEWUSER),
		"clone user":     raw(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD)),
		"clone3":         raw(unix.SYS_CLONE3, 0, 0),
		"ptrace":         raw(unix.SYS_PTRACE, 0),
		"mount":          raw(unix.SYS_MOUNT),
		"open by handle": raw(unix.SYS_OPEN_BY_HANDLE_AT),
		"socket vsock":   raw(unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM),
		"socket alg":     raw(unix.SYS_SOCKET, unix.AF_ALG, unix.SOCK_SEQPACKET),
		"socket inet":    raw(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM),
		"become root":    unix.ErrnoName(errnoOf(unix.Setuid(0))),
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		outcome["status"] = err.Error()
	}
	for _, line := range strings.Split(string(status), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			switch name {
			case "CapEff", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Groups":
				outcome[name] = strings.TrimSpace(value)
			}
		}
	}
	for name, fd := range map[string]uintptr{"stdin": 0, "stdout": 1, "stderr": 2} {
		target, err := os.Readlink("/proc/self/fd/" + string('0'+rune(fd)))
		if err != nil {
			target = err.Error()
		}
		outcome[name], _, _ = strings.Cut(target, ":")
		outcome["link of "+name] = target
	}
	if outcome["link of stdout"] == outcome["link of stderr"] {
		outcome["outputs"] = "one"
	}
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		outcome["leaked"] = err.Error()
	}
	for _, d := range descriptors {
		if target, err := os.Readlink("/proc/self/fd/" + d.Name()); err == nil && target == leakedFile {
			outcome["leaked"] = target
		}
	}
	b, err := json.Marshal(outcome)
	if err != nil {
		os.Exit(1)
	}
	os.Stdout.Write(append(b, '\n')) //nolint:errcheck // the test sees what is missing
}

func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	errors.As(err, &errno)
	return errno
}

// confined starts this program as a payload that a Confinement holds, and that
// tries what it may not.
func confined(t *testing.T, log *zap.Logger) *supervise.Supervisor {
	t.Helper()
	s, _ := startConfined(t, log, "probe")
	return s
}

// daemon is what a payload forks away.
func daemon(socket string) {
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	l, err := net.Listen("unix", socket)
	if err != nil {
		os.Exit(1)
	}
	for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
		conn.Close()
	}
}

// forkAway starts this program as a daemon with the payload's own outputs.
func forkAway(socket string) {
	os.Remove(socket) //nolint:errcheck // it is of a daemon that is gone, or not there
	self, err := os.Executable()
	if err != nil {
		os.Exit(1)
	}
	cmd := exec.Command(self)
	cmd.Env = []string{"DAEMON_SOCKET=" + socket}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if cmd.Start() != nil {
		os.Exit(1)
	}
}

// startConfined starts this program as a confined payload, with a file that
// says what it is to do in its data.
func startConfined(t *testing.T, log *zap.Logger, task string) (s *supervise.Supervisor, data string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can make a process give up what root has")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Where the user that it becomes can reach it.
	dir, err := os.MkdirTemp("", "confined")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, data := filepath.Join(dir, "payload"), filepath.Join(dir, "data")
	copyProgram(t, self, program)
	for _, err := range []error{
		os.Chmod(dir, 0o755), os.Mkdir(data, 0o755), os.Chown(data, 65534, 65534), os.WriteFile(filepath.Join(data, task), nil, 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s = supervise.New(supervise.Payload{
		Command: []string{program}, Socket: filepath.Join(dir, "run", "s"), Data: data, Health: "/health", Log: log,
		Confinement: &supervise.Confinement{UID: 65534, GID: 65534, Self: self, Alone: true},
	})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s, data
}

func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// A payload has no right that it could use against the agent or the kernel,
// and none that another program could give it back.
func TestConfinedPayload(t *testing.T) {
	// What somebody opened without a thought of children is not the payload's.
	leaked, err := syscall.Open(leakedFile, syscall.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(leaked) //nolint:errcheck // it was read only
	var console bytes.Buffer
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&console), zap.InfoLevel))
	s := confined(t, log)
	until(t, s, "healthy", s.Healthy)
	// What was printed before may arrive after.
	until(t, s, "printed", func() bool { return bytes.Contains(s.Output(), []byte("\n")) })
	line, _, _ := bytes.Cut(s.Output(), []byte("\n"))
	var got map[string]string
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatalf("output %q: %v", s.Output(), err)
	}
	const none = "0000000000000000"
	for name, want := range map[string]string{
		"io_uring_setup": "EPERM", "keyctl": "EPERM", "bpf": "EPERM", "unshare user": "EPERM", "clone user": "EPERM",
		"clone3": "ENOSYS", "ptrace": "EPERM", "mount": "EPERM", "open by handle": "EPERM",
		"socket vsock": "EAFNOSUPPORT", "socket alg": "EAFNOSUPPORT", "socket inet": "", "become root": "EPERM",
		"CapEff": none, "CapPrm": none, "CapBnd": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2", "Groups": "",
		"leaked": "", "stdin": "/dev/null", "stdout": "pipe", "stderr": "pipe", "outputs": "one",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	s.Stop()
	if console.Len() != 0 {
		t.Errorf("the console shows %q", console.Bytes())
	}
}

// What a payload forks away ends with it, though it heeds no signal and holds
// the output open; neither Stop nor a restart waits for it.
func TestNothingOutlivesThePayload(t *testing.T) {
	s, data := startConfined(t, zap.NewNop(), "daemon")
	socket := filepath.Join(data, "daemon.sock")
	alive := func() bool {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	until(t, s, "healthy", s.Healthy)
	until(t, s, "forked away", alive)
	if resp, err := (&http.Client{Transport: s.Transport()}).Get("http://payload/exit"); err == nil {
		resp.Body.Close()
		t.Error("a payload that ends answered")
	}
	until(t, s, "restarted", func() bool { return s.Restarts() == 1 })
	if strings.Contains(string(s.Output()), exec.ErrWaitDelay.Error()) {
		t.Error("the restart waited for a daemon's output")
	}
	until(t, s, "forked away again", func() bool { return s.Healthy() && alive() })
	s.Stop()
	if alive() {
		t.Error("it outlived the payload")
	}
}

// A payload chooses its exit status too: its owner reads that, the console does
// not show it.
func TestExitStatusIsTheOwners(t *testing.T) {
	var console bytes.Buffer
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&console), zap.InfoLevel))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "exit"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sockets, err := os.MkdirTemp("", "supervise")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	s := supervise.New(supervise.Payload{Command: []string{self}, Socket: filepath.Join(sockets, "s"), Data: data, Health: "/health", Log: log})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, s, "ended twice", func() bool { return s.Restarts() > 1 })
	s.Stop()
	if !bytes.Contains(s.Output(), []byte("exit status 97")) {
		t.Errorf("the owner reads %q", s.Output())
	}
	if b := console.Bytes(); bytes.Contains(b, []byte("status")) || bytes.Count(b, []byte("\n")) == 0 {
		t.Errorf("the console shows %q", b)
	}
}

// The owner reads the end of the output, however much there was of it.
func TestOutputIsBounded(t *testing.T) {
	s, data := newSupervisor(t)
	until(t, s, "healthy", s.Healthy)
	if err := os.WriteFile(filepath.Join(data, "noise"), bytes.Repeat([]byte("0123456789"), 30_000), 0o600); err != nil {
		t.Fatal(err)
	}
	get(t, s, "/print")
	until(t, s, "printed", func() bool { return bytes.HasSuffix(s.Output(), []byte("0123456789")) })
	if got := len(s.Output()); got != supervise.MaxOutputBytes {
		t.Errorf("%d bytes are kept, want %d", got, supervise.MaxOutputBytes)
	}
	get(t, s, "/print")
	// More arrives meanwhile: at any moment it is in order.
	output := s.Output()
	for i, c := range output {
		if i > 0 && c != '0'+(output[i-1]-'0'+1)%10 {
			t.Fatalf("byte %d is %q: the order is lost", i, c)
		}
	}
}
