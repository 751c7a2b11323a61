package qemu_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/providers"
)

const emulator = "qemu-system-x86_64"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == emulator {
		emulate(filepath.Dir(os.Args[0]))
		return
	}
	os.Exit(m.Run())
}

// emulate is QEMU as the provider sees it: it says that its guest starts anew as long
// as the directory of its program says so, and then stays. Each run leaves a byte there.
func emulate(dir string) {
	f, err := os.OpenFile(filepath.Join(dir, "runs"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	fmt.Fprint(f, "r")
	f.Close()
	l, err := net.FileListener(os.NewFile(4, "monitor"))
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go speak(c)
		}
	}()
	events, err := net.FileConn(os.NewFile(5, "events"))
	if err != nil {
		panic(err)
	}
	lines := bufio.NewScanner(events)
	fmt.Fprintln(events, `{"QMP":{}}`)
	lines.Scan()
	fmt.Fprintln(events, `{"return":{}}`)
	if _, err := os.Stat(filepath.Join(dir, "resets")); err == nil {
		fmt.Fprintln(events, `{"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-reset"}}`)
		return
	}
	lines.Scan()
}

func speak(c net.Conn) {
	fmt.Fprintln(c, `{"QMP":{}}`)
	for lines := bufio.NewScanner(c); lines.Scan(); {
		fmt.Fprintln(c, `{"return":{}}`)
	}
}

// resetting has the site's QEMU be one whose guest starts anew until the answer is
// called; runs is how often it was started.
func (s *site) resetting(t *testing.T) (stop func(), runs func() int) {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	resets := filepath.Join(dir, "resets")
	if err := errors.Join(os.Symlink(self, filepath.Join(dir, emulator)), os.WriteFile(resets, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	stop = func() {
		if err := os.Remove(resets); err != nil {
			t.Fatal(err)
		}
	}
	return stop, func() int {
		b, err := os.ReadFile(filepath.Join(dir, "runs"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return len(b)
	}
}

// A guest that starts anew at once and again is started each time, as one machine, not
// more than once a second, and is off when that is asked for.
func TestGuestThatStartsAnewForEver(t *testing.T) {
	needVMs(t)
	s := newSite(t)
	stop, runs := s.resetting(t)
	p := s.open(t)
	s.begin(t, p)
	const again = 4
	began := time.Now()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for runs() < again {
		select {
		case <-tick.C:
		case <-deadline.C:
			m, err := p.Get(t.Context(), machine)
			t.Fatalf("after %d runs it is %s (%s), %v", runs(), m.Power, m.Reason, err)
		}
	}
	if took := time.Since(began); took < (again-1)*time.Second {
		t.Errorf("%d starts within %s", again, took)
	}
	if err := p.SetPower(t.Context(), machine, false); err != nil {
		t.Fatal(err)
	}
	if off := await(t, p, providers.PowerOff); len(processes(off)) > 0 {
		t.Errorf("off, it has %v", processes(off))
	}
	was := runs()
	stop()
	if err := p.SetPower(t.Context(), machine, true); err != nil {
		t.Fatal(err)
	}
	if on := await(t, p, providers.PowerOn); len(processes(on)) != 2 || runs() != was+1 {
		t.Errorf("started %d times, it has %v", runs()-was, processes(on))
	}
}
