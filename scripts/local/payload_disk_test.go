package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/imagebuild"
)

// pythonRoot is a root with Debian's python3, the libraries that it and its
// modules need, and a server.
func (w *world) pythonRoot() string {
	w.t.Helper()
	root := w.t.TempDir()
	out, err := exec.Command("/usr/bin/python3", "-c", "import sys; print(sys.executable, 'python%d.%d' % sys.version_info[:2])").Output()
	w.must(err)
	fields := strings.Fields(string(out))
	modules := "/usr/lib/" + fields[1]
	needed := map[string]bool{}
	w.libraries(fields[0], needed)
	w.must(filepath.WalkDir(modules, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && slices.Contains([]string{"test", "idlelib", "ensurepip", "lib2to3", "__pycache__", "tkinter", "turtledemo"}, name) || strings.HasPrefix(name, "config-") && d.IsDir() {
			return filepath.SkipDir
		}
		if strings.HasPrefix(d.Name(), "_tkinter") || !d.Type().IsRegular() {
			return nil
		}
		if strings.HasSuffix(path, ".so") {
			w.libraries(path, needed)
		}
		w.copyInto(root, path, path)
		return nil
	}))
	for path := range needed {
		w.copyInto(root, path, path)
	}
	w.copyInto(root, fields[0], "/usr/bin/python3")
	w.copyInto(root, "testdata/python/server.py", "/srv/server.py")
	return root
}

// libraries are those that the host's loader finds for a file.
func (w *world) libraries(path string, into map[string]bool) {
	w.t.Helper()
	out, err := exec.Command("ldd", path).CombinedOutput()
	if err != nil && !bytes.Contains(out, []byte("statically linked")) {
		w.t.Fatalf("ldd %s: %v\n%s", path, err, out)
	}
	for word := range strings.FieldsSeq(string(out)) {
		if filepath.IsAbs(word) && word != path+":" {
			into[word] = true
		}
	}
}

func (w *world) copyInto(root, from, to string) {
	w.t.Helper()
	info, err := os.Stat(from)
	w.must(err)
	in, err := os.Open(from)
	w.must(err)
	defer in.Close()
	to = filepath.Join(root, to)
	w.must(os.MkdirAll(filepath.Dir(to), 0o755))
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, info.Mode().Perm())
	w.must(err)
	_, err = io.Copy(out, in)
	w.must(err)
	w.must(out.Close())
}

// blob is a file of the payload's that nothing reads by itself, of bytes that are
// found nowhere else on the disk.
func blob(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b) //nolint:errcheck // it has no errors
	return b
}

// A Python server with its libraries takes the toolshed's place, from the boot
// disk: it starts, is claimed, keeps data, and reaches nobody but whom it may. A
// flipped byte of its files is an error and not data.
func TestVMPayloadOnTheBootDisk(t *testing.T) {
	w := newWorld(t)
	root := w.pythonRoot()
	good, bad := blob(3, 1<<20), blob(4, 8<<20)
	w.must(os.WriteFile(filepath.Join(root, "srv/good"), good, 0o644))
	w.must(os.WriteFile(filepath.Join(root, "srv/bad"), bad, 0o644))
	port := listenEverywhere(t)
	w.releaseOf(root, "python3 -u /srv/server.py --first", "--argument", "second word", "--env", "COLOUR=deep blue", "--env", "PYTHONDONTWRITEBYTECODE=1",
		"--payload-port", "8000", "--health", "/healthz", "--open-files", "200", "--memory", "128MiB", "--processes", "64",
		"--network", fmt.Sprintf("198.18.0.1:%d,listed.example:443,10.0.2.2.example:1", port))
	w.start()
	w.signUp("ada")
	i := w.ready("ada")
	w.exits(0, []string{"verify", i.URL}, "accepted", "payload: /usr/bin/python3", "198.18.0.1:"+fmt.Sprint(port))
	w.exits(0, []string{"claim", i.URL}, "is yours")
	var about struct {
		Arguments               []string
		Colour, Version, Write  string
		UID, Nice, Libc, Memory int
		Root                    []string
	}
	w.asks(i, "/about", &about)
	t.Logf("%+v", about)
	if !slices.Equal(about.Arguments, []string{"--first", "second word"}) || about.Colour != "deep blue" || about.UID != 1000 || about.Nice != 0 || about.Libc < 1 || about.Memory != 1 ||
		!strings.Contains(about.Write, "Read-only file system") {
		t.Errorf("it says of itself %+v", about)
	}
	var notes []string
	w.asks(i, "/note?text=kept", &notes)
	w.asks(i, "/note", &notes)
	if !slices.Equal(notes, []string{"kept"}) {
		t.Errorf("notes %q", notes)
	}
	t.Run("it reaches whom it may", func(t *testing.T) { w.in(t).reaches(i, port) })
	t.Run("its limits hold", func(t *testing.T) { w.in(t).limits(i) })
	t.Run("a flipped byte is an error", func(t *testing.T) { w.in(t).flips(i, good, bad) })
}

func (w *world) in(t *testing.T) *world {
	return &world{t: t, place: w.place, ports: w.ports, releaseDir: w.releaseDir}
}

// asks reads what the payload says.
func (w *world) asks(i instance, path string, into any) {
	w.t.Helper()
	w.must(json.Unmarshal([]byte(w.ask(i.URL, "GET", path, "")), into))
}

const greeting = "you are in"

// listenEverywhere greets whoever connects to a port of this host.
func listenEverywhere(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			io.WriteString(conn, greeting) //nolint:errcheck // who asked sees it
			conn.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// reaches has the payload try the listed host, which is this one by an address of
// its loopback's, and those that nobody reaches.
func (w *world) reaches(i instance, port int) {
	w.t.Helper()
	if out, err := exec.Command("ip", "address", "add", "198.18.0.1/32", "dev", "lo").CombinedOutput(); err != nil {
		w.t.Skipf("no address to be reached at: %v %s", err, out)
	}
	w.t.Cleanup(func() {
		if out, err := exec.Command("ip", "address", "del", "198.18.0.1/32", "dev", "lo").CombinedOutput(); err != nil {
			w.t.Errorf("%v %s", err, out)
		}
	})
	tries := [][]any{{"tcp", "198.18.0.1", port}}
	for _, host := range []string{"10.0.2.2", "10.0.2.3", "10.0.2.4", "10.0.2.15", "::ffff:10.0.2.2", "fec0::2", "fec0::3", "169.254.169.254", "fd00:ec2::254", "198.18.0.2", "127.0.0.1", "::1"} {
		tries = append(tries, []any{"tcp", host, 443}, []any{"udp", host, 53}, []any{"tcp", host, port})
	}
	tries = append(tries, []any{"tcp", "198.18.0.1", w.ports.Agents}, []any{"tcp", "10.0.2.2", w.ports.Agents})
	text, err := json.Marshal(tries)
	w.must(err)
	var said []string
	w.asks(i, "/reach?tries="+url.QueryEscape(string(text)), &said)
	w.t.Logf("%q", said)
	for n, one := range tries {
		switch {
		case n == 0:
			if said[n] != greeting {
				w.t.Errorf("the listed host: %s", said[n])
			}
		case one[0] == "udp" && (one[1] == "127.0.0.1" || one[1] == "::1"):
			// The machine's own name service.
		case one[1] == "127.0.0.1" && one[2] == port, one[1] == "::1" && one[2] == port:
			// The payload's own loopback, where nobody listens.
			if !strings.HasPrefix(said[n], "ConnectionRefusedError") {
				w.t.Errorf("%v: %s", one, said[n])
			}
		case !strings.HasPrefix(said[n], "PermissionError 1:") && !strings.HasPrefix(said[n], "OSError 101:"):
			w.t.Errorf("%v: %s", one, said[n])
		}
	}
	var looked any
	w.asks(i, "/lookup?name=c2VjcmV0.example", &looked)
	if text, ok := looked.(string); !ok || !strings.HasPrefix(text, "gaierror -2:") {
		w.t.Errorf("a name that is not listed: %v", looked)
	}
}

// limits has the payload ask for more than it may have, of threads, which are not
// made, and of memory, which ends it; it is started again.
func (w *world) limits(i instance) {
	w.t.Helper()
	var started, taken int
	w.asks(i, "/threads", &started)
	if started == 0 || started >= 64 {
		w.t.Errorf("it started %d threads, and may have 64", started)
	}
	if w.asks(i, "/starve?megabytes=64", &taken); taken != 64<<20 {
		w.t.Errorf("it took %d bytes of 128 MiB", taken)
	}
	x, err := w.place.connect(w.t.Context(), i.URL, 0)
	w.must(err)
	defer x.stop() //nolint:errcheck // the answers count
	if said, err := x.ask(w.t.Context(), "GET", "/starve?megabytes=160", ""); err == nil {
		w.t.Errorf("it took more than it may have: %s", said)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	w.must(poll(ctx, 100*time.Millisecond, func() (bool, error) {
		said, err := x.ask(ctx, "GET", "/note", "")
		return err == nil && strings.Contains(said, "kept"), nil
	}))
	w.exits(0, []string{"logs", i.URL}, "signal: killed")
}

// flips changes a byte of a file that the payload has not read yet.
func (w *world) flips(i instance, good, bad []byte) {
	w.t.Helper()
	name := w.only("images", "*", imagebuild.DiskName)
	b, err := os.ReadFile(name)
	w.must(err)
	at := bytes.Index(b, bad[5<<20:5<<20+4096])
	if at < 0 {
		w.t.Fatal("the file does not lie on the disk as it is")
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	w.must(err)
	_, err = f.WriteAt([]byte{b[at] ^ 1}, int64(at))
	w.must(err)
	w.must(f.Close())
	var said string
	w.asks(i, "/digest?path=/srv/bad", &said)
	if !strings.HasPrefix(said, "OSError 5:") {
		w.t.Errorf("a file with a flipped byte: %s", said)
	}
	sum := sha256.Sum256(good)
	if w.asks(i, "/digest?path=/srv/good", &said); said != hex.EncodeToString(sum[:]) {
		w.t.Errorf("another file: %s", said)
	}
}
