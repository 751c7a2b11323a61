// Command benchguest is the machine that make bench-image measures beside the
// agent's: as PID 1 it writes and reads a disk with and without authentication, or
// gets an address and answers, and does nothing else.
//
// Invariants: both disks are filled by the same calls, on the same file system, with
// the same flushes; each line that it prints begins with a word in capitals.
package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/agent/boot"
	"github.com/toolshed-cloud/shed/agent/devicemapper"
	"github.com/toolshed-cloud/shed/agent/seal"
	"github.com/toolshed-cloud/shed/attest/channel"
)

const modules = "/etc/shed/modules"

func main() {
	fmt.Println("START")
	words, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		// /proc is not mounted yet.
		err = boot.Mount()
	}
	if err == nil {
		words, err = os.ReadFile("/proc/cmdline")
	}
	task := answer
	if strings.Contains(string(words), "bench.disk") {
		task = compareDisks
	}
	if err == nil {
		err = task(context.Background())
	}
	fmt.Println("FINISHED", err)
	if err := boot.PowerOff(); err != nil {
		fmt.Println("FAILED", err)
	}
}

// answer gets an address and answers HTTPS.
func answer(ctx context.Context) error {
	for _, list := range []string{modules, modules + ".network"} {
		if err := boot.LoadModules(list); err != nil {
			return err
		}
	}
	if _, err := boot.NetworkUp(ctx); err != nil {
		return err
	}
	certificate, _, err := channel.NewCertificate(rand.Reader)
	if err != nil {
		return err
	}
	l, err := tls.Listen("tcp", ":443", channel.ServerConfig(certificate))
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go respond(conn)
	}
}

func respond(conn net.Conn) {
	defer conn.Close()
	b := make([]byte, 4<<10)
	if _, err := conn.Read(b); err != nil {
		return
	}
	io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") //nolint:errcheck // the other side asks again
}

// fileBytes is what is written and read at a time, a multiple of what the guest keeps
// of it in memory is not needed: caches are dropped between the two.
const (
	fileBytes  = 96 << 20
	flushBytes = 4 << 20
	rounds     = 3
)

// A disk of ours, and one that is encrypted and not authenticated.
const (
	authenticated = "/dev/vda"
	plain         = "/dev/vdb"
)

func compareDisks(ctx context.Context) error {
	for _, list := range []string{modules, modules + ".data", modules + ".bench"} {
		if err := boot.LoadModules(list); err != nil {
			return err
		}
	}
	ours, err := (&seal.DMCrypt{Name: "data"}).Make(authenticated, []byte("a key of tests.."))
	if err != nil {
		return err
	}
	theirs, err := mapPlain()
	if err != nil {
		return err
	}
	for range rounds {
		for name, device := range map[string]string{"OURS": ours, "PLAIN": theirs} {
			if err := measure(ctx, name, device); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// mapPlain is aes-xts over the second disk (Linux, Documentation/admin-guide/
// device-mapper/dm-crypt.rst).
func mapPlain() (string, error) {
	d, err := devicemapper.Open()
	if err != nil {
		return "", err
	}
	defer d.Close() //nolint:errcheck // what is mapped stays
	f, err := os.Open(plain)
	if err != nil {
		return "", err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", err
	}
	mapped, err := d.Map("plain", devicemapper.Target{
		Sectors: uint64(size / 512), Kind: "crypt",
		Parameters: "aes-xts-plain64 " + strings.Repeat("0f", 64) + " 0 " + plain + " 0 1 sector_size:4096",
	})
	return mapped.Path(), err
}

// measure makes a file system as a claim does, writes a file with a flush every few
// mebibytes, drops what is kept of it, and reads it.
func measure(ctx context.Context, name, device string) error {
	if err := boot.Format(ctx, device); err != nil {
		return err
	}
	m := boot.DataMount{Path: "/data", Volume: "/run/volume"}
	if err := m.Device(device, boot.UseSettled); err != nil {
		return err
	}
	wrote, err := write()
	if err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o600); err != nil {
		return err
	}
	began := time.Now()
	f, err := os.Open("/data/file")
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, f)
	if err := errors.Join(err, f.Close()); err != nil || n != fileBytes {
		return fmt.Errorf("read %d bytes: %w", n, err)
	}
	fmt.Printf("%s WRITE %d READ %d\n", name, wrote.Microseconds(), time.Since(began).Microseconds())
	unix.Sync()
	return m.Unmount()
}

func write() (time.Duration, error) {
	b := make([]byte, flushBytes)
	if _, err := rand.Read(b); err != nil {
		return 0, err
	}
	began := time.Now()
	f, err := os.Create("/data/file")
	if err != nil {
		return 0, err
	}
	for range fileBytes / flushBytes {
		if _, err := f.Write(b); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	return time.Since(began), f.Close()
}
