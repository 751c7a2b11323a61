package eventlog

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
)

// typeNames are the types that a boot of ours logs (TCG PC Client Platform
// Firmware Profile 1.06, table 14).
var typeNames = map[uint32]string{
	0x00000001: "EV_POST_CODE", 0x00000004: "EV_SEPARATOR", 0x00000005: "EV_ACTION", 0x00000006: "EV_EVENT_TAG",
	0x00000007: "EV_S_CRTM_CONTENTS", 0x00000008: "EV_S_CRTM_VERSION", 0x00000009: "EV_CPU_MICROCODE",
	0x0000000A: "EV_PLATFORM_CONFIG_FLAGS", 0x0000000B: "EV_TABLE_OF_DEVICES", 0x0000000D: "EV_IPL",
	0x0000000F: "EV_NONHOST_CODE", 0x80000001: "EV_EFI_VARIABLE_DRIVER_CONFIG", 0x80000002: "EV_EFI_VARIABLE_BOOT",
	0x80000003: "EV_EFI_BOOT_SERVICES_APPLICATION", 0x80000004: "EV_EFI_BOOT_SERVICES_DRIVER",
	0x80000005: "EV_EFI_RUNTIME_SERVICES_DRIVER", 0x80000006: "EV_EFI_GPT_EVENT", 0x80000007: "EV_EFI_ACTION",
	0x80000008: "EV_EFI_PLATFORM_FIRMWARE_BLOB", 0x80000009: "EV_EFI_HANDOFF_TABLES",
	0x8000000A: "EV_EFI_PLATFORM_FIRMWARE_BLOB2", 0x8000000B: "EV_EFI_HANDOFF_TABLES2", 0x8000000C: "EV_EFI_VARIABLE_BOOT2",
	0x800000E0: "EV_EFI_VARIABLE_AUTHORITY",
}

// String names an event by what the log calls it, what the log says of it and
// the first eight digits of its digest.
func (e Event) String() string {
	name, ok := typeNames[e.Type]
	if !ok {
		name = fmt.Sprintf("type %#x", e.Type)
	}
	if detail := e.detail(); detail != "" {
		return fmt.Sprintf("%s %q %.8s…", name, detail, e.Digest)
	}
	return fmt.Sprintf("%s %.8s…", name, e.Digest)
}

func (e Event) detail() string {
	switch e.Type {
	case 0x80000001, 0x80000002, 0x8000000C, 0x800000E0:
		return variableName(e.Data)
	case 0x80000003, 0x80000004, 0x80000005:
		return imagePath(e.Data)
	case 0x00000005, 0x0000000A, 0x0000000D, 0x80000007:
		return printable(string(e.Data))
	}
	return ""
}

// variableName reads the name out of a UEFI_VARIABLE_DATA.
func variableName(b []byte) string {
	const head = 16 + 8 + 8
	if len(b) < head {
		return ""
	}
	units := binary.LittleEndian.Uint64(b[16:])
	if units > uint64(len(b)-head)/2 {
		return ""
	}
	return utf16Text(b[head : head+2*units])
}

// imagePath reads the file or device out of a UEFI_IMAGE_LOAD_EVENT's device
// path (UEFI 2.10, section 10.3).
func imagePath(b []byte) string {
	const head = 4 * 8
	if len(b) < head {
		return ""
	}
	var nodes []string
	for path := b[head:]; len(path) >= 4 && len(nodes) < 8; {
		size := int(binary.LittleEndian.Uint16(path[2:]))
		if size < 4 || size > len(path) || path[0] == 0x7f {
			break
		}
		nodes = append(nodes, pathNode(path[0], path[1], path[4:size]))
		path = path[size:]
	}
	return printable(strings.Join(nodes, "/"))
}

func pathNode(kind, sub byte, data []byte) string {
	switch {
	case kind == 4 && sub == 4:
		return utf16Text(data)
	case kind == 1 && sub == 1 && len(data) == 2:
		return fmt.Sprintf("Pci(%d,%d)", data[1], data[0])
	case kind == 4 && sub == 8:
		return "OptionRom"
	default:
		return fmt.Sprintf("%d.%d", kind, sub)
	}
}

func utf16Text(b []byte) string {
	units := make([]uint16, 0, len(b)/2)
	for i := 0; i+1 < len(b); i += 2 {
		if u := binary.LittleEndian.Uint16(b[i:]); u != 0 {
			units = append(units, u)
		}
	}
	return printable(string(utf16.Decode(units)))
}

// maxText bounds what is quoted of one event, in bytes.
const maxText = 64

// printable keeps what a terminal shows as it is.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), maxText)]
}
