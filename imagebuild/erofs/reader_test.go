package erofs_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"path"
	"slices"
)

// found is what an image has of a name.
type found struct {
	mode uint16
	data []byte
}

// reader reads an image as strictly as the format allows: what a kernel could
// stumble over is an error, and so are bytes that nothing points to.
type reader struct {
	image []byte
	files map[string]found
	used  [][2]int
}

var le = binary.LittleEndian

func readImage(image []byte) (map[string]found, error) {
	r := &reader{image: image, files: map[string]found{}}
	super := image[1024:1152]
	blocks, count := int(le.Uint32(super[36:])), le.Uint64(super[16:])
	sum := slices.Clone(image[1024:4096])
	copy(sum[4:8], make([]byte, 4))
	switch {
	case le.Uint32(super) != 0xE0F5E1E2 || super[12] != 12 || blocks*4096 != len(image):
		return nil, fmt.Errorf("a superblock of %d blocks for %d bytes", blocks, len(image))
	case le.Uint32(super[8:]) != 1 || le.Uint32(super[80:]) != 0:
		return nil, fmt.Errorf("features %x, incompatible %x", super[8:12], super[80:84])
	case le.Uint32(super[4:]) != ^crc32.Checksum(sum, crc32.MakeTable(crc32.Castagnoli)):
		return nil, fmt.Errorf("checksum %x", super[4:8])
	}
	r.use(1024, 128)
	root := uint64(le.Uint16(super[14:]))
	if err := r.walk("", root, root, 2); err != nil {
		return nil, err
	}
	if uint64(len(r.files)) != count {
		return nil, fmt.Errorf("%d inodes, and the superblock says %d", len(r.files), count)
	}
	return r.files, r.leftovers()
}

func (r *reader) use(at, n int) { r.used = append(r.used, [2]int{at, at + n}) }

// leftovers looks at what is used twice, and not at all.
func (r *reader) leftovers() error {
	slices.SortFunc(r.used, func(a, b [2]int) int { return a[0] - b[0] })
	end := 0
	for _, u := range append(r.used, [2]int{len(r.image), len(r.image)}) {
		if u[0] < end || u[1] > len(r.image) {
			return fmt.Errorf("bytes %d to %d are used twice, or not in the image", u[0], u[1])
		}
		if len(bytes.Trim(r.image[end:u[0]], "\x00")) != 0 {
			return fmt.Errorf("bytes %d to %d are nobody's and not zero", end, u[0])
		}
		end = u[1]
	}
	return nil
}

// walk reads an inode of a kind and, of a directory, all that is in it.
func (r *reader) walk(name string, nid, parent uint64, kind byte) error {
	at := int(nid * 32)
	inode := r.image[at : at+32]
	format, mode, links, size := le.Uint16(inode), le.Uint16(inode[4:]), int(le.Uint16(inode[6:])), int(le.Uint32(inode[8:]))
	from := int(le.Uint32(inode[16:])) * 4096
	switch {
	case format == 4 && size > 0 && at%4096+32+size <= 4096:
		if from != 0 {
			return fmt.Errorf("%q is behind its inode and at %d", name, from)
		}
		from = at + 32
		r.use(at, 32+size)
	case format == 0 && (size > 4064 || size == 0):
		r.use(at, 32)
		r.use(from, size)
	default:
		return fmt.Errorf("%q has format %d for %d bytes at %d", name, format, size, at)
	}
	if size == 0 {
		r.used, from = r.used[:len(r.used)-1], 0
	}
	if want := map[uint16]byte{0o100: 1, 0o040: 2, 0o120: 7}[mode>>9&^7]; want != kind || inode[24]|inode[25]|inode[26]|inode[27] != 0 || le.Uint16(inode[2:]) != 0 {
		return fmt.Errorf("%q has mode %o where the directory says %d, inode %x", name, mode, kind, inode)
	}
	r.files[name] = found{mode: mode, data: r.image[from : from+size]}
	want := 1
	if kind == 2 {
		directories, err := r.directory(name, nid, parent, r.image[from:from+size])
		if err != nil {
			return err
		}
		r.files[name], want = found{mode: mode}, directories
	}
	if links != want {
		return fmt.Errorf("%q has %d links, want %d", name, links, want)
	}
	return nil
}

// directory reads one, and answers how many directories are in it, with itself and
// the one above.
func (r *reader) directory(name string, nid, parent uint64, data []byte) (directories int, err error) {
	last := ""
	for block := range slices.Chunk(data, 4096) {
		first := int(le.Uint16(block[8:]))
		for at := 0; at < first; at += 12 {
			begin, end := int(le.Uint16(block[at+8:])), len(block)
			if at+12 < first {
				end = int(le.Uint16(block[at+20:]))
			}
			entry := string(bytes.TrimRight(block[begin:end], "\x00"))
			if entry <= last || len(entry) > 255 || block[at+11] != 0 {
				return 0, fmt.Errorf("in %q, %q comes after %q", name, entry, last)
			}
			last = entry
			to, kind := le.Uint64(block[at:]), block[at+10]
			if kind == 2 {
				directories++
			}
			special, is := map[string]uint64{".": nid, "..": parent}[entry]
			if is && (special != to || kind != 2) {
				return 0, fmt.Errorf("in %q, %q is %d, want %d", name, entry, to, special)
			}
			if is {
				continue
			}
			if err := r.walk(path.Join(name, entry), to, nid, kind); err != nil {
				return 0, err
			}
		}
	}
	return directories, nil
}
