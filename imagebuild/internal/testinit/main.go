// Command testinit stands in for the agent when a test boots an image: it says
// what it finds on the console and powers the machine off. Invariant: each
// line it prints begins with a word in capitals, for the test to look for.
package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(); err != nil {
		fmt.Println("FAILED", err)
	}
	fmt.Println("END")
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("FAILED", err)
	}
}

func run() error {
	for _, m := range [][2]string{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"securityfs", "/sys/kernel/security"},
	} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", m[1], err)
		}
	}
	uptime, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return err
	}
	fmt.Println("UPTIME", strings.Fields(string(uptime))[0])
	for _, list := range []string{"", ".network", ".data"} {
		if err := loadModules("MODULE", "/etc/shed/modules"+list); err != nil {
			return err
		}
	}
	for _, alone := range []string{"sev-guest", "tdx-guest", "ena"} {
		if err := loadModules("ALONE", "/etc/shed/modules."+alone); err != nil {
			return err
		}
	}
	if err := tryPlatform(); err != nil {
		return err
	}
	for _, file := range []string{"/etc/shed/release.json", "/proc/cmdline", "/sys/kernel/security/lockdown", "/proc/sys/kernel/tainted"} {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		fmt.Println("FILE", file, strings.TrimSpace(string(text)))
	}
	return printRegisters()
}

// tryPlatform asks for what only the firmware may, and prints the TPM's answer:
// TPM2_HierarchyChangeAuth (TPM 2.0 Part 3, section 24.8) on the platform
// hierarchy, from an empty authorization to an empty one.
func tryPlatform() error {
	fd, err := unix.Open("/dev/tpm0", unix.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("opening tpm: %w", err)
	}
	defer unix.Close(fd) //nolint:errcheck // the machine ends
	command, err := hex.DecodeString("80020000001d000001294000000c000000094000000900000000000000")
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, command); err != nil {
		return fmt.Errorf("asking the tpm: %w", err)
	}
	answer := make([]byte, 64)
	n, err := unix.Read(fd, answer)
	if err != nil || n < 10 {
		return fmt.Errorf("%d bytes of the tpm's: %w", n, err)
	}
	fmt.Printf("PLATFORM %#x\n", binary.BigEndian.Uint32(answer[6:]))
	return nil
}

func loadModules(word, path string) error {
	list, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for _, file := range strings.Fields(string(list)) {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		fmt.Println(word, filepath.Base(file), err)
		f.Close()
	}
	return nil
}

func printRegisters() error {
	for _, bank := range []string{"sha256", "sha384"} {
		for i := range 16 {
			value, err := os.ReadFile(fmt.Sprintf("/sys/class/tpm/tpm0/pcr-%s/%d", bank, i))
			if err != nil {
				return err
			}
			fmt.Println("PCR", bank, i, strings.ToLower(strings.TrimSpace(string(value))))
		}
	}
	return nil
}
