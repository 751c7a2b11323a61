package erofs_test

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"path"
	"testing"

	"github.com/toolshed-cloud/shed/imagebuild/erofs"
)

// fuzzed makes entries out of bytes: for each a kind, a length of the name and one
// of the data, and the name.
func fuzzed(b []byte) (entries []erofs.Entry) {
	dirs := []string{"."}
	for total := 0; len(b) >= 5 && total < 1<<20; {
		kind, length, size := b[0], int(b[1]), int(binary.LittleEndian.Uint16(b[2:]))
		dir := dirs[int(b[4])%len(dirs)]
		b = b[5:]
		// A name without bytes of its own is one of that length, so that blocks of
		// directories are full.
		name := string(b[:min(length, len(b), int(kind>>4))])
		b = b[len(name):]
		if kind>>4 == 0 {
			name = nameOf(len(entries), length+5)
		}
		name = path.Join(dir, "x")[:len(path.Join(dir, "x"))-1] + name
		switch kind & 3 {
		case 0:
			entries = append(entries, directory(name, fs.FileMode(size)&fs.ModePerm))
			dirs = append(dirs, name)
		case 1:
			entries = append(entries, link(name, nameOf(0, 4+size%4200)))
		default:
			entries = append(entries, file(name, fs.FileMode(kind)<<1, random(size)))
			total += size
		}
	}
	return entries
}

func FuzzImage(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x00\x01\xed\x01\x00\x02\x01\x05\x00\x01\x12\x02\xe0\x0f\x01ab\x11\x02\xe0\x0f\x01-."))
	f.Add([]byte("\x20\x02\xed\x01\x00..\x12\x01\x00\x00\x00/\x12\x01\x00\x00\x00a\x12\x01\x00\x00\x00a"))
	many := []byte{0, 200, 0, 0, 0}
	for i := range 100 {
		many = append(many, 2, byte(i*5), byte(i), byte(i), byte(i))
	}
	f.Add(many)
	f.Fuzz(func(t *testing.T, b []byte) {
		entries := fuzzed(b)
		if _, err := erofs.Plan(entries); err != nil {
			if !errors.Is(err, erofs.ErrEntry) {
				t.Fatal(err)
			}
			return
		}
		checkRead(t, build(t, entries), entries)
	})
}
