package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"
	"unicode/utf16"

	"github.com/toolshed-cloud/shed/imagebuild/disk"
)

// driverPath is where the driver stands on the EFI system partition.
const driverPath = "DRIVER.EFI"

// A driver that the firmware's variables name runs before the image and shows
// in register 2 alone. A machine that was ready and claimed loses its URL, and
// its data stays closed.
func TestVMDriver(t *testing.T) {
	w := newPlainWorld(t)
	w.start()
	w.signUp("ada")
	i := w.ready("ada")
	w.exits(0, []string{"claim", i.URL}, "is yours")
	w.stop()
	w.replaceImage(append(w.bootDisk(w.image()), disk.File{Path: driverPath, Data: idleDriver()})...)
	w.renewOverlay()
	w.installDriver()
	before := len(w.console())
	w.start()
	w.caught("ada", "pcr2")
	w.dataStaysClosed("ada", before)
}

// renewOverlay has the machine start from the image as it now is.
func (w *world) renewOverlay() {
	w.t.Helper()
	w.must(os.Remove(w.machineFile("system.qcow2")))
}

// installDriver names the driver in the firmware's variables of the only
// machine, which must be off.
func (w *world) installDriver() {
	w.t.Helper()
	base, err := os.Open(w.only("images", "*", "disk.raw"))
	w.must(err)
	defer base.Close()
	entry := make([]byte, partitionEntryBytes)
	_, err = base.ReadAt(entry, partitionEntriesAt)
	w.must(err)

	path := w.machineFile("vars.fd")
	store, err := os.ReadFile(path)
	w.must(err)
	end, ok := endOfVariables(store)
	if !ok {
		w.t.Fatal("vars.fd is no store of authenticated variables")
	}
	var added []byte
	added = appendVariable(added, "Driver0000", loadOption(entry, `\`+driverPath))
	added = appendVariable(added, "DriverOrder", []byte{0, 0})
	if room := store[end : end+len(added)]; len(bytes.Trim(room, "\xff")) > 0 {
		w.t.Fatal("the variables do not end where they seem to")
	}
	copy(store[end:], added)
	w.must(os.WriteFile(path, store, 0o600))
}

// The first entry of a GUID partition table (UEFI specification, section 5.3).
const (
	partitionEntriesAt  = 2 * 512
	partitionEntryBytes = 128
)

// loadOption is an EFI_LOAD_OPTION that starts a file of the partition that a
// partition table's entry describes (UEFI specification, sections 3.1.3 and
// 10.3.5).
func loadOption(entry []byte, file string) []byte {
	first, last := binary.LittleEndian.Uint64(entry[32:]), binary.LittleEndian.Uint64(entry[40:])
	const (
		media, hardDrive, filePath = 4, 1, 4
		active                     = 1
		guidTable, guidSignature   = 2, 2
	)
	var drive []byte
	drive = binary.LittleEndian.AppendUint32(drive, 1)
	drive = binary.LittleEndian.AppendUint64(drive, first)
	drive = binary.LittleEndian.AppendUint64(drive, last-first+1)
	drive = append(drive, entry[16:32]...)
	drive = append(drive, guidTable, guidSignature)

	var path []byte
	path = appendNode(path, media, hardDrive, drive)
	path = appendNode(path, media, filePath, utf16Text(file))
	path = appendNode(path, 0x7f, 0xff, nil)

	option := binary.LittleEndian.AppendUint32(nil, active)
	option = binary.LittleEndian.AppendUint16(option, uint16(len(path)))
	option = append(option, utf16Text("driver")...)
	return append(option, path...)
}

// appendNode appends one node of a device path.
func appendNode(b []byte, kind, subkind byte, data []byte) []byte {
	b = append(b, kind, subkind)
	b = binary.LittleEndian.AppendUint16(b, uint16(4+len(data)))
	return append(b, data...)
}

// utf16Text is a CHAR16 string with its zero.
func utf16Text(s string) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(s + "\x00")) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return b
}

// variable is EDK II's AUTHENTICATED_VARIABLE_HEADER, which name and data
// follow; the next begins at a multiple of four.
type variable struct {
	Start      uint16
	State      uint8
	_          uint8
	Attributes uint32
	Count      uint64
	Time       [16]byte
	Key        uint32
	NameBytes  uint32
	DataBytes  uint32
	Vendor     [16]byte
}

const (
	variableStart = 0x55aa
	variableAdded = 0x3f
	// variableAttributes are non-volatile, and there for boot services and at
	// run time.
	variableAttributes = 7
	variableAlign      = 4
	storeHeaderBytes   = 28
)

var (
	// globalVendor is EFI_GLOBAL_VARIABLE, 8be4df61-93ca-11d2-aa0d-00e098032b8c.
	globalVendor = [16]byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	// authenticatedStore is aaf32c78-947b-439a-a180-2e144ec37792.
	authenticatedStore = []byte{0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92}
)

// endOfVariables is where a store in a firmware volume has room for another
// variable.
func endOfVariables(store []byte) (int, bool) {
	const headerLengthAt = 48
	at := int(binary.LittleEndian.Uint16(store[headerLengthAt:]))
	if !bytes.HasPrefix(store[at:], authenticatedStore) {
		return 0, false
	}
	at += storeHeaderBytes
	for at < len(store) {
		var v variable
		if _, err := binary.Decode(store[at:], binary.LittleEndian, &v); err != nil {
			return 0, false
		}
		if v.Start != variableStart {
			return at, true
		}
		at += aligned(binary.Size(v) + int(v.NameBytes) + int(v.DataBytes))
	}
	return 0, false
}

func aligned(n int) int { return (n + variableAlign - 1) / variableAlign * variableAlign }

// appendVariable appends to b, which begins at a multiple of four.
func appendVariable(b []byte, name string, data []byte) []byte {
	text := utf16Text(name)
	b, err := binary.Append(b, binary.LittleEndian, variable{
		Start: variableStart, State: variableAdded, Attributes: variableAttributes,
		NameBytes: uint32(len(text)), DataBytes: uint32(len(data)), Vendor: globalVendor,
	})
	if err != nil {
		panic(err) // the header has a fixed size
	}
	b = append(append(b, text...), data...)
	return append(b, bytes.Repeat([]byte{0xff}, aligned(len(b))-len(b))...)
}

// idleDriver is the smallest EFI boot service driver that does nothing and
// stays (Microsoft, PE Format).
func idleDriver() []byte {
	const (
		peAt, codeAt, codeRVA = 0x40, 0x200, 0x1000
		amd64, driver         = 0x8664, 11
		directories           = 16
		optionalBytes         = 112 + directories*8
		executable            = 0x0002 | 0x0020 // large addresses
		codeSection           = 0x60000020      // code, executable, readable
	)
	b := make([]byte, codeAt, 2*codeAt)
	put := func(at int, v any) {
		if _, err := binary.Encode(b[at:], binary.LittleEndian, v); err != nil {
			panic(err) // all are numbers
		}
	}
	copy(b, "MZ")
	put(0x3c, uint32(peAt))
	copy(b[peAt:], "PE\x00\x00")
	put(peAt+4, uint16(amd64))
	put(peAt+6, uint16(1)) // sections
	put(peAt+20, uint16(optionalBytes))
	put(peAt+22, uint16(executable))

	const optional = peAt + 24
	put(optional, uint16(0x20b)) // PE32+
	put(optional+4, uint32(codeAt))
	put(optional+16, uint32(codeRVA)) // entry point
	put(optional+20, uint32(codeRVA))
	put(optional+32, uint32(codeRVA))   // section alignment
	put(optional+36, uint32(codeAt))    // file alignment
	put(optional+56, uint32(2*codeRVA)) // image size
	put(optional+60, uint32(codeAt))    // header size
	put(optional+68, uint16(driver))
	put(optional+108, uint32(directories))

	const section = optional + optionalBytes
	copy(b[section:], ".text")
	put(section+8, uint32(codeAt))
	put(section+12, uint32(codeRVA))
	put(section+16, uint32(codeAt))
	put(section+20, uint32(codeAt))
	put(section+36, uint32(codeSection))

	// xor eax, eax; ret: EFI_SUCCESS.
	return append(b, append([]byte{0x31, 0xc0, 0xc3}, make([]byte, codeAt-3)...)...)
}
