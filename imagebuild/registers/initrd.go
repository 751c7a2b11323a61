package registers

import (
	"fmt"
	"slices"
	"strings"
)

// releaseInInitrd is the first systemd-stub that gives the image's .osrel to
// the initrd, as /.extra/os-release.
const releaseInInitrd = 257

// handedOver is the initrd as the stub gives it to the kernel: the section
// itself, and from releaseInInitrd on, after padding, an archive of the stub's
// own making.
func handedOver(sections map[string][]byte, version int) []byte {
	initrd, release := sections[".initrd"], sections[".osrel"]
	if version < releaseInInitrd || len(release) == 0 {
		return initrd
	}
	a := archive(padded(slices.Clone(initrd)))
	a = a.entry(entry{inode: 1, mode: 0o40555, links: 1, name: ".extra"}, nil)
	a = a.entry(entry{inode: 2, mode: 0o100444, links: 1, name: ".extra/os-release"}, release)
	return a.entry(entry{links: 1, name: "TRAILER!!!"}, nil)
}

// archive is a cpio archive in the kernel's "newc" format, as the stub writes
// it (systemd's src/boot/cpio.c).
type archive []byte

type entry struct {
	inode, mode, links uint32
	name               string
}

func (a archive) entry(e entry, data []byte) archive {
	name := e.name + "\x00"
	const nothing = "00000000"
	// The one size of a name with a letter in it is the trailer's, a constant
	// there with a capital.
	header := fmt.Sprintf("070701%08x%08x%s%08x%s%08x%s%08X%s", e.inode, e.mode, strings.Repeat(nothing, 2), e.links,
		nothing, len(data), strings.Repeat(nothing, 4), len(name), nothing)
	a = padded(append(append(a, header...), name...))
	return padded(append(a, data...))
}

// padded fills up to a multiple of four.
func padded(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }
