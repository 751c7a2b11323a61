// Command testinit stands in for the agent when a test boots an image: it says
// what it finds on the console and powers the machine off. Invariant: each
// line it prints begins with a word in capitals, for the test to look for.
package main

import (
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
	if err := loadModules(); err != nil {
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

func loadModules() error {
	list, err := os.ReadFile("/etc/shed/modules")
	if err != nil {
		return err
	}
	for _, file := range strings.Fields(string(list)) {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		fmt.Println("MODULE", filepath.Base(file), err)
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
