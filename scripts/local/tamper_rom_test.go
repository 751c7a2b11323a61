package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The option ROM of Debian's package ipxe-qemu, with a driver for UEFI in it.
const optionROM = "/usr/lib/ipxe/qemu/efi-virtio.rom"

// An option ROM runs before the image and shows in register 2 alone.
func TestVMOptionROM(t *testing.T) {
	w := newPlainWorld(t)
	w.fitOptionROM()
	w.start()
	w.signUp("ada")
	w.caught("ada", "pcr2")
}

// fitOptionROM puts an option ROM on the network card, where the plugin asks
// for none.
func (w *world) fitOptionROM() {
	w.t.Helper()
	if _, err := os.Stat(optionROM); err != nil {
		w.t.Fatalf("there is no option ROM: %v: apt-get install ipxe-qemu", err)
	}
	w.wrapQEMU("*,romfile=) argument=$argument" + optionROM + " ;;")
}

// wrapQEMU has the provider's plugin start QEMU with each argument changed as
// pattern, a shell's case clause over $argument, says, and with more behind.
func (w *world) wrapQEMU(pattern string, more ...string) {
	w.t.Helper()
	qemu, err := exec.LookPath("qemu-system-x86_64")
	w.must(err)
	bin, host := w.place.in("bin"), w.place.in("bin", "host")
	w.must(os.MkdirAll(host, 0o700))
	for _, program := range w.programs() {
		into := bin
		if program == "shed-provider-qemu" {
			into = host
		}
		w.must(os.Link(w.place.program(program), filepath.Join(into, program)))
	}
	for name, script := range map[string]string{
		filepath.Join(bin, "shed-provider-qemu"): fmt.Sprintf("PATH=%s:$PATH exec %[1]s/shed-provider-qemu\n", host),
		filepath.Join(host, "qemu-system-x86_64"): strings.Join([]string{
			"for argument; do",
			"	shift",
			"	case $argument in " + pattern + " esac",
			"	set -- \"$@\" \"$argument\"",
			"done",
			"exec " + qemu + " \"$@\" " + strings.Join(more, " ") + "\n",
		}, "\n"),
	} {
		w.must(os.WriteFile(name, []byte("#!/bin/sh\n"+script), 0o700))
	}
	w.place.bin = bin
}

// programs are those that were built.
func (w *world) programs() []string {
	w.t.Helper()
	var names []string
	entries, err := os.ReadDir(w.place.bin)
	w.must(err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "shed") {
			names = append(names, e.Name())
		}
	}
	return names
}
