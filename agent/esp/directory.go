package esp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Caps on what is followed.
const (
	maxDirectoryClusters = 16
	maxDepth             = 4
)

// A directory entry has these at these places (Microsoft, FAT32 File System
// Specification, section 6).
const (
	entryBytes     = 32
	placeAttribute = 11
	placeUpper     = 20
	placeLower     = 26
	placeSize      = 28

	attributeDirectory = 0x10
	attributeArchive   = 0x20
	attributeLongName  = 0x0f
	entryDeleted       = 0xe5
	// fatDate is 1980-01-01, the earliest there is.
	fatDate = 1<<5 | 1
)

// entry is a directory's entry; at is its place, in bytes of the disk.
type entry struct {
	name      [11]byte
	attribute byte
	cluster   uint32
	size      uint32
	at        int64
}

func (e entry) directory() bool { return e.attribute&attributeDirectory != 0 }

func (e entry) dots() bool { return e.name[0] == '.' }

func (e entry) encode() []byte {
	b := make([]byte, entryBytes)
	copy(b, e.name[:])
	b[placeAttribute] = e.attribute
	for _, at := range []int{16, 18, 24} {
		binary.LittleEndian.PutUint16(b[at:], fatDate)
	}
	binary.LittleEndian.PutUint16(b[placeUpper:], uint16(e.cluster>>16))
	binary.LittleEndian.PutUint16(b[placeLower:], uint16(e.cluster))
	binary.LittleEndian.PutUint32(b[placeSize:], e.size)
	return b
}

// entries are those of a directory with these clusters. Long names are passed over.
func (v *Volume) entries(clusters []uint32) ([]entry, error) {
	var all []entry
	for _, c := range clusters {
		b, err := v.read(v.offset(c), int(v.clusterBytes))
		if err != nil {
			return nil, err
		}
		for at := 0; at < len(b); at += entryBytes {
			raw := b[at : at+entryBytes]
			if raw[0] == 0 {
				return all, nil
			}
			if raw[0] == entryDeleted || raw[placeAttribute]&attributeLongName == attributeLongName {
				continue
			}
			all = append(all, entry{
				name: [11]byte(raw[:11]), attribute: raw[placeAttribute],
				cluster: uint32(binary.LittleEndian.Uint16(raw[placeUpper:]))<<16 | uint32(binary.LittleEndian.Uint16(raw[placeLower:])),
				size:    binary.LittleEndian.Uint32(raw[placeSize:]), at: v.offset(c) + int64(at),
			})
		}
	}
	return all, nil
}

// freeEntry is the place of the first entry that can be used in a directory.
func (v *Volume) freeEntry(directory uint32) (int64, error) {
	clusters, err := v.wholeChain(directory)
	if err != nil {
		return 0, err
	}
	for _, c := range clusters {
		b, err := v.read(v.offset(c), int(v.clusterBytes))
		if err != nil {
			return 0, err
		}
		for at := 0; at < len(b); at += entryBytes {
			if b[at] == 0 || b[at] == entryDeleted {
				return v.offset(c) + int64(at), nil
			}
		}
	}
	return 0, fmt.Errorf("%w: its directory is full", ErrNoRoom)
}

// ShortName spells a name as an entry holds it; the error says why there is none.
func ShortName(name string) ([11]byte, error) {
	var short [11]byte
	base, extension, _ := strings.Cut(name, ".")
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	if base == "" || len(base) > 8 || len(extension) > 3 || strings.Trim(base+extension, letters) != "" {
		return short, fmt.Errorf("%q is not a name of 8.3 uppercase characters", name)
	}
	copy(short[:], fmt.Sprintf("%-8s%-3s", base, extension))
	return short, nil
}

// find is the entry of a path, with slashes, and the cluster of its directory.
// The error is ErrNoFile where a part of it is not there; the directory is that
// of the first part which is not, and rest what is left of the path.
func (v *Volume) find(path string) (e entry, directory uint32, rest string, err error) {
	directory = v.root
	for rest = path; ; {
		name, below, deeper := strings.Cut(rest, "/")
		short, err := ShortName(name)
		if err != nil {
			return e, directory, rest, err
		}
		e, err = v.lookup(directory, short)
		if err != nil {
			return e, directory, rest, fmt.Errorf("%s: %w", path, err)
		}
		if e.directory() != deeper || deeper && !v.isCluster(e.cluster) {
			return e, directory, rest, layout("%s is a file where a directory is looked for, or the other way around", name)
		}
		if !deeper {
			return e, directory, rest, nil
		}
		directory, rest = e.cluster, below
	}
}

func (v *Volume) lookup(directory uint32, name [11]byte) (entry, error) {
	clusters, err := v.wholeChain(directory)
	if err != nil {
		return entry{}, err
	}
	entries, err := v.entries(clusters)
	if err != nil {
		return entry{}, err
	}
	for _, e := range entries {
		if e.name == name {
			return e, nil
		}
	}
	return entry{}, ErrNoFile
}

// List is the names of the files in a directory. Errors are as Extents'.
func (v *Volume) List(directory string) ([]string, error) {
	// A name that no file has leads to the directory that it would be in.
	_, cluster, rest, err := v.find(directory + "/0")
	if err != nil && (!errors.Is(err, ErrNoFile) || rest != "0") {
		return nil, err
	}
	clusters, err := v.wholeChain(cluster)
	if err != nil {
		return nil, err
	}
	entries, err := v.entries(clusters)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !e.directory() {
			names = append(names, longName(e.name))
		}
	}
	return names, nil
}

// longName is ShortName backwards.
func longName(name [11]byte) string {
	base, extension := strings.TrimRight(string(name[:8]), " "), strings.TrimRight(string(name[8:]), " ")
	if extension == "" {
		return base
	}
	return base + "." + extension
}
