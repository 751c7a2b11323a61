package blobs

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func packedOf(t testing.TB, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := pack(&b, strings.NewReader(content), int64(len(content)))
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("packing: %v, %d of %d", err, n, b.Len())
	}
	return b.Bytes()
}

// A packed file reads as its content from anywhere, and any zstd unpacks it.
func TestPacked(t *testing.T) {
	content := strings.Repeat("a line that comes again\n", 150_000)
	b := packedOf(t, content)
	u, err := unpack(bytes.NewReader(b), int64(len(b)))
	if err != nil || u.size != int64(len(content)) {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		from := random.IntN(len(content))
		length := min(random.IntN(2*frameBytes), len(content)-from)
		if _, err := u.Seek(int64(from), io.SeekStart); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, length)
		if _, err := io.ReadFull(u, got); err != nil || string(got) != content[from:from+length] {
			t.Fatalf("%d bytes from %d: %v", length, from, err)
		}
	}
	d, err := zstd.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if got, err := io.ReadAll(d); err != nil || string(got) != content {
		t.Errorf("by a plain reader: %v, %d bytes", err, len(got))
	}
	if path, err := exec.LookPath("zstd"); err == nil {
		cmd := exec.Command(path, "-dc")
		cmd.Stdin = bytes.NewReader(b)
		if got, err := cmd.Output(); err != nil || string(got) != content {
			t.Errorf("by zstd itself: %v, %d bytes", err, len(got))
		}
	}
}

func TestNotWorthPacking(t *testing.T) {
	b := make([]byte, 2*frameBytes)
	rand.NewChaCha8([32]byte{}).Read(b)
	if _, err := pack(io.Discard, bytes.NewReader(b), int64(len(b))); !errors.Is(err, errNotWorth) {
		t.Errorf("noise: %v", err)
	}
	// Only the first frame shrinks.
	copy(b, bytes.Repeat([]byte{'x'}, 1000))
	if _, err := pack(io.Discard, bytes.NewReader(b), int64(len(b))); !errors.Is(err, errNotWorth) {
		t.Errorf("noise behind a little: %v", err)
	}
}

// A damaged file is refused, and never reads as more than it says.
func FuzzUnpack(f *testing.F) {
	good := packedOf(f, strings.Repeat("content ", 1000))
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(seekTable(nil))
	f.Add([]byte("short"))
	long := packedOf(f, strings.Repeat("content ", 300_000))
	f.Add(long)
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := unpack(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		n, err := io.Copy(io.Discard, u)
		if n > u.size || (err == nil && n != u.size) {
			t.Errorf("%d of %d bytes: %v", n, u.size, err)
		}
	})
}

func FuzzMetadata(f *testing.F) {
	for _, seed := range []string{"", "filename d29ybGQ=,is_confidential", "a YQ==, b Yg==", "a !!", ",", "a YQ==,a YQ=="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseMetadata(text)
		if err == nil && len(all) > strings.Count(text, ",")+1 {
			t.Errorf("%q: %v", text, all)
		}
	})
}

func FuzzChecksum(f *testing.F) {
	for _, seed := range []string{"", "sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00=", "sha1 AAAA", "md5 x", "sha256  "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if sum, err := parseChecksum(text); err == nil && sum != nil && len(sum.Want) != sum.Hash.Size() {
			t.Errorf("%q: %d bytes", text, len(sum.Want))
		}
	})
}

func FuzzNames(f *testing.F) {
	f.Add("text/plain; charset=utf-8", "x.txt")
	f.Add("nonsense;;", "../x")
	f.Add("", "\r\nSet-Cookie: x")
	f.Fuzz(func(t *testing.T, kind, name string) {
		if got, err := checkNames(kind, name); err == nil && (strings.ContainsAny(name, "\r\n/\\") || strings.ContainsAny(got, "\r\n")) {
			t.Errorf("%q %q passes as %q", kind, name, got)
		}
	})
}
