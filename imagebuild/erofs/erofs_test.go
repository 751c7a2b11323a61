package erofs_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/imagebuild/erofs"
)

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func file(name string, mode fs.FileMode, data []byte) erofs.Entry {
	return erofs.Entry{Name: name, Mode: mode, Bytes: int64(len(data)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
}

func directory(name string, mode fs.FileMode) erofs.Entry {
	return erofs.Entry{Name: name, Mode: fs.ModeDir | mode}
}

func link(name, to string) erofs.Entry {
	return erofs.Entry{Name: name, Mode: fs.ModeSymlink | 0o777, Link: to}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(b) //nolint:errcheck // it has no errors
	return b
}

// sample has what the format has edges for.
func sample() []erofs.Entry {
	entries := []erofs.Entry{
		directory("tmp", 0o777|fs.ModeSticky), directory("proc", 0o555), directory("many", 0o755), directory("a", 0o700),
		directory("a/b", 0o750), directory("a/b/c", 0o755), file("a/b/c/d", 0o755, []byte("deep")), file("a-b", 0, []byte("between a and a/b")),
		file("sticky", 0o4|fs.ModeSticky, []byte("x")), file("\xff\xfe", 0o644, []byte("no text")),
		link("short", "x"), link("absolute", "/a/b/c/d"), link("behind", strings.Repeat("l", 4064)), link("block", strings.Repeat("l", 4065)), link("longest", strings.Repeat("/l", 2047)+"l"),
	}
	for _, n := range []int{0, 1, 31, 32, 33, 4063, 4064, 4065, 4095, 4096, 4097, 8191, 8192, 8193, 3<<20 + 5} {
		entries = append(entries, file(fmt.Sprintf("file-%d", n), 0o644, random(n)))
	}
	// Names that sort before, between and after `.` and `..`.
	for _, name := range []string{"!", "-", ".!", "..!", "...", ".a", "..a", "0"} {
		entries = append(entries, file("a/b/"+name, 0o600, []byte(name)))
	}
	for i := range 5000 {
		entries = append(entries, file("many/"+nameOf(i, 5+i*7%251), 0o644, []byte(fmt.Sprint(i))))
	}
	// Directories that end at the edge of what is behind an inode, and of a block.
	for _, last := range []int{19, 20, 21, 51, 52, 53} {
		dir := fmt.Sprintf("edge-%d", last)
		entries = append(entries, directory(dir, 0o755), directory(dir+"/"+nameOf(99, last), 0o711))
		for i := range 15 {
			entries = append(entries, file(dir+"/"+nameOf(i, 255), 0o644, nil))
		}
	}
	return entries
}

// nameOf is one of a length, of its own for each number.
func nameOf(i, length int) string {
	s := fmt.Sprintf("%04d", i)
	return s + strings.Repeat("n", length-len(s))
}

func build(t testing.TB, entries []erofs.Entry) []byte {
	t.Helper()
	image, err := erofs.Plan(entries)
	must(t, err)
	var out bytes.Buffer
	n, err := image.WriteTo(&out)
	must(t, err)
	if n != image.Bytes() || n != int64(out.Len()) || n%4096 != 0 {
		t.Fatalf("%d bytes were written, %d said, %d planned", out.Len(), n, image.Bytes())
	}
	return out.Bytes()
}

func content(t testing.TB, e erofs.Entry) []byte {
	t.Helper()
	if e.Open == nil {
		return []byte(e.Link)
	}
	r, err := e.Open()
	must(t, err)
	b, err := io.ReadAll(r)
	must(t, err)
	return b
}

func unixMode(e erofs.Entry) uint16 {
	m := uint16(e.Mode.Perm())
	if e.Mode&fs.ModeSticky != 0 {
		m |= 0o1000
	}
	switch {
	case e.Mode.IsDir():
		return m | 0o040000
	case e.Mode&fs.ModeSymlink != 0:
		return 0o120777
	}
	return m | 0o100000
}

// checkRead has the reader of the tests find in an image what went into it.
func checkRead(t testing.TB, image []byte, entries []erofs.Entry) {
	t.Helper()
	files, err := readImage(image)
	must(t, err)
	if len(files) != len(entries)+1 || files[""].mode != 0o040755 {
		t.Errorf("%d names, want %d, the root's mode %o", len(files), len(entries)+1, files[""].mode)
	}
	for _, e := range entries {
		got, there := files[e.Name]
		if !there || got.mode != unixMode(e) || !bytes.Equal(got.data, content(t, e)) {
			t.Errorf("%q: there %v, mode %o, want %o, %d bytes", e.Name, there, got.mode, unixMode(e), len(got.data))
		}
	}
}

func TestImageHasItsEntries(t *testing.T) {
	for _, entries := range [][]erofs.Entry{nil, {file("x", 0o644, nil)}, sample()} {
		checkRead(t, build(t, entries), entries)
	}
}

// sampleDigest is that of the sample's image. A release is rebuilt by packing its
// files again: who changes this has every payload on a disk be another one.
const sampleDigest = "b79d5a8ee5869e1ca07168762046de3a6ec72e42e7cb5913c226ac0fd18a0c54"

// The order of the entries is nothing, and each thing that an entry says is
// something.
func TestImageIsAFunctionOfItsEntries(t *testing.T) {
	entries := sample()
	image := build(t, entries)
	if sum := sha256.Sum256(image); hex.EncodeToString(sum[:]) != sampleDigest {
		t.Errorf("the sample's image is another one: %x", sum)
	}
	shuffled := slices.Clone(entries)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	if !bytes.Equal(build(t, shuffled), image) {
		t.Error("another order gives other bytes")
	}
	at := func(name string) int {
		return slices.IndexFunc(entries, func(e erofs.Entry) bool { return e.Name == name })
	}
	for what, e := range map[string]erofs.Entry{
		"file-4097": file("file-4097", 0o644, append(random(4097)[:4096], 0)), "file-33": file("file-33", 0o644, make([]byte, 33)),
		"file-0": file("file-00", 0o644, nil), "sticky": file("sticky", 0o4, []byte("x")), "a-b": file("a-b", 0o1, []byte("between a and a/b")),
		"short": link("short", "y"), "proc": directory("proc", 0o755), "absolute": file("absolute", 0o777, []byte("/a/b/c/d")),
		"tmp": directory("tmq", 0o777|fs.ModeSticky),
	} {
		changed := slices.Clone(entries)
		changed[at(what)] = e
		if bytes.Equal(build(t, changed), image) {
			t.Errorf("a change of %s changes nothing", what)
		}
	}
	if bytes.Equal(build(t, entries[:len(entries)-1]), image) {
		t.Error("an entry less changes nothing")
	}
}

func TestPlanRefuses(t *testing.T) {
	open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("")), nil }
	crowd := []erofs.Entry{directory("crowd", 0o755)}
	for i := range 65534 {
		crowd = append(crowd, directory("crowd/"+nameOf(i, 6), 0o755))
	}
	huge := make([]erofs.Entry, 0, 258)
	for i := range 258 {
		huge = append(huge, erofs.Entry{Name: nameOf(i, 5), Bytes: 1<<32 - 1, Open: open})
	}
	for want, entries := range map[string][]erofs.Entry{
		`""`:                            {file("", 0o644, nil)},
		`"."`:                           {directory(".", 0o755)},
		`".."`:                          {directory("..", 0o755)},
		`"/a"`:                          {file("/a", 0o644, nil)},
		`"a/"`:                          {directory("a/", 0o755)},
		`"d//a"`:                        {directory("d", 0o755), file("d//a", 0o644, nil)},
		`"d/./a"`:                       {directory("d", 0o755), file("d/./a", 0o644, nil)},
		`"d/../a"`:                      {directory("d", 0o755), file("d/../a", 0o644, nil)},
		`"a\x00b": no path`:             {file("a\x00b", 0o644, nil)},
		`name of more than 255`:         {file(nameOf(1, 256), 0o644, nil)},
		`path of more than 4095`:        {file(strings.Repeat("d/", 2047)+"ab", 0o644, nil)},
		`"d/a": its directory`:          {file("d/a", 0o644, nil)},
		`"f/a": its directory`:          {file("f", 0o644, nil), file("f/a", 0o644, nil)},
		`"l/a": its directory`:          {directory("d", 0o755), link("l", "d"), file("l/a", 0o644, nil)},
		`"a": it is there twice`:        {file("a", 0o644, nil), directory("a", 0o755)},
		`"s": mode u`:                   {file("s", 0o755|fs.ModeSetuid, nil)},
		`"p": mode p`:                   {{Name: "p", Mode: fs.ModeNamedPipe | 0o644}},
		`"v": mode D`:                   {{Name: "v", Mode: fs.ModeDevice | 0o644}},
		`"n": -1 bytes`:                 {{Name: "n", Bytes: -1, Open: open}},
		`"b": 4294967296 bytes`:         {{Name: "b", Bytes: 1 << 32, Open: open}},
		`"o": a file that cannot be`:    {{Name: "o"}},
		`"d": bytes of what`:            {{Name: "d", Mode: fs.ModeDir, Bytes: 1}},
		`"l": bytes of what`:            {{Name: "l", Mode: fs.ModeSymlink, Link: "x", Open: open}},
		`"l": a link to ""`:             {link("l", "")},
		`"l": a link to "x\x00"`:        {link("l", "x\x00")},
		`"l": a link to "lll`:           {link("l", strings.Repeat("l", 4096))},
		`"f": a target`:                 {{Name: "f", Link: "x", Open: open}},
		`65533 directories beside it`:   crowd,
		`more than 1099511627776 bytes`: huge,
		`262145 of them`:                make([]erofs.Entry, 1<<18+1),
	} {
		if _, err := erofs.Plan(entries); !errors.Is(err, erofs.ErrEntry) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := erofs.Plan(crowd[:len(crowd)-1]); err != nil {
		t.Errorf("as many directories as there can be: %v", err)
	}
}

// broken is a file, or a writer, that fails.
type broken struct{ after int }

var errBroken = errors.New("broken")

func (b *broken) Read([]byte) (int, error) { return 0, errBroken }
func (b *broken) Close() error             { return nil }
func (b *broken) Write(p []byte) (int, error) {
	if b.after -= len(p); b.after < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

// A file that is not what it was said to be is an error with its name, whether it
// is behind its inode or in blocks, and so is what cannot be read or written.
func TestWriteRefuses(t *testing.T) {
	for _, n := range []int{0, 1, 4064, 4065, 8192, 1 << 20} {
		for _, lie := range []int64{-1, 1} {
			e := file("liar", 0o644, random(n))
			if e.Bytes += lie; e.Bytes < 0 {
				continue
			}
			image, err := erofs.Plan([]erofs.Entry{e})
			must(t, err)
			if _, err := image.WriteTo(io.Discard); !errors.Is(err, erofs.ErrEntry) || !strings.Contains(fmt.Sprint(err), "liar") {
				t.Errorf("%d bytes that were said to be %d: %v", n, e.Bytes, err)
			}
		}
	}
	for _, open := range []func() (io.ReadCloser, error){
		func() (io.ReadCloser, error) { return nil, errBroken }, func() (io.ReadCloser, error) { return &broken{}, nil },
	} {
		image, err := erofs.Plan([]erofs.Entry{{Name: "liar", Bytes: 7, Open: open}})
		must(t, err)
		if _, err := image.WriteTo(io.Discard); !errors.Is(err, errBroken) || errors.Is(err, erofs.ErrEntry) || !strings.Contains(fmt.Sprint(err), "liar") {
			t.Errorf("a file that cannot be read: %v", err)
		}
	}
	image, err := erofs.Plan([]erofs.Entry{file("x", 0o644, random(1<<20))})
	must(t, err)
	for _, after := range []int{0, 1 << 19, int(image.Bytes()) - 1} {
		if _, err := image.WriteTo(&broken{after: after}); !errors.Is(err, errBroken) {
			t.Errorf("a writer that fails after %d bytes: %v", after, err)
		}
	}
}

// ends keeps an image's first blocks and its last one.
type ends struct {
	first, last []byte
	total       int64
}

func (e *ends) Write(p []byte) (int, error) {
	if room := 4*4096 - len(e.first); room > 0 {
		e.first = append(e.first, p[:min(room, len(p))]...)
	}
	e.last = append(e.last, p[max(0, len(p)-4096):]...)
	e.last = e.last[max(0, len(e.last)-4096):]
	e.total += int64(len(p))
	return len(p), nil
}

// endless is what a buffer had in it before, for ever.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// The longest file there can be has its length, and what is behind it its place.
func TestLongestFile(t *testing.T) {
	longest := erofs.Entry{Name: "long", Mode: 0o644, Bytes: 1<<32 - 1}
	longest.Open = func() (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(endless{}, longest.Bytes)), nil
	}
	behind := random(4096)
	image, err := erofs.Plan([]erofs.Entry{longest, file("next", 0o644, behind)})
	must(t, err)
	var out ends
	if n, err := image.WriteTo(&out); err != nil || n != image.Bytes() || n != 4096*(2+1<<20+1) || out.total != n {
		t.Fatalf("%d bytes, error %v", n, err)
	}
	if !bytes.Equal(out.last, behind) {
		t.Error("the last block is not the last file's")
	}
	root := int(le.Uint16(out.first[1024+14:])) * 32
	entries := out.first[root+32:]
	// `.`, `..`, `long` and `next`, of twelve bytes each.
	long, next := out.first[32*le.Uint64(entries[24:]):], out.first[32*le.Uint64(entries[36:]):]
	if size, block := le.Uint32(long[8:]), le.Uint32(next[16:]); size != 1<<32-1 || block != 2+1<<20 {
		t.Errorf("%d bytes, and the next file at block %d", size, block)
	}
}
