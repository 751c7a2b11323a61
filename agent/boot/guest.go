package boot

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// LoadGuestModules loads the drivers of the confidential VM that this machine
// is, from the lists beside the one given, and mounts where they report. Where
// it is none it does nothing. Errors are the kernel's.
func LoadGuestModules(list string) error {
	guest, err := guestDriver(os.DirFS("/"))
	if guest == "" || err != nil {
		return err
	}
	if err := LoadModules(list + "." + guest); err != nil {
		return err
	}
	return config.mountIfThere()
}

// guestDriver is the driver of reports that fits the machine: the kernel of an
// SEV-SNP guest has a device for it, and that of a TDX guest a flag of its
// processor (Linux 6.12, arch/x86/coco/sev/core.c and cpufeatures.h).
func guestDriver(root fs.FS) (string, error) {
	_, err := fs.Stat(root, "sys/devices/platform/sev-guest")
	if err == nil {
		return "sev-guest", nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("looking for a device of sev-guest: %w", err)
	}
	f, err := root.Open("proc/cpuinfo")
	if err != nil {
		return "", fmt.Errorf("looking for a processor of tdx: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// All processors have the same flags.
		if key, flags, _ := strings.Cut(lines.Text(), ":"); strings.TrimSpace(key) == "flags" {
			if slices.Contains(strings.Fields(flags), "tdx_guest") {
				return "tdx-guest", nil
			}
			break
		}
	}
	return "", nil
}

// EventLog is the firmware's event log where the kernel has one (Linux,
// Documentation/security/tpm/tpm_event_log.rst); the error is fs.ErrNotExist
// where it has none. It is at most limit bytes: a longer one is ErrLongLog.
func EventLog(limit int) ([]byte, error) {
	return readEventLog(os.DirFS("/"), limit)
}

// ErrLongLog says that the firmware's event log is longer than evidence holds.
var ErrLongLog = errors.New("event log is too long")

func readEventLog(root fs.FS, limit int) ([]byte, error) {
	f, err := root.Open("sys/kernel/security/tpm0/binary_bios_measurements")
	if err != nil {
		return nil, fmt.Errorf("reading event log: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("reading event log: %w", err)
	}
	if len(b) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrLongLog, limit)
	}
	return b, nil
}
