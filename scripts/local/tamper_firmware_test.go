package main

import (
	"os"
	"testing"
)

// The host's own build of the firmware, of which each release brings another.
const hostFirmware = "/usr/share/OVMF/OVMF_CODE_4M.fd"

// ACPI tables are the host's code in the guest's kernel, and the firmware runs
// before everything: each change shows in registers 0 and 1 alone, and such a
// machine is caught before anything is routed to it.
func TestVMAddedTable(t *testing.T) {
	w := newPlainWorld(t)
	table := w.place.in("ssdt.aml")
	w.must(os.WriteFile(table, emptySSDT(), 0o600))
	w.wrapQEMU("", "-acpitable", "file="+table)
	w.start()
	w.signUp("ada")
	w.caught("ada", "pcr1")
}

// The tables' maker is in each of them.
func TestVMChangedTable(t *testing.T) {
	w := newPlainWorld(t)
	w.wrapQEMU("*,smm=off,*) argument=$argument,x-oem-id=OTHERS ;;")
	w.start()
	w.signUp("ada")
	w.caught("ada", "pcr1")
}

// A machine with more memory than any that the release was built for.
func TestVMAnotherShape(t *testing.T) {
	w := newPlainWorld(t)
	w.wrapQEMU("512) argument=640 ;;")
	w.start()
	w.signUp("ada")
	w.caught("ada", "pcr1")
}

// The host's firmware measures itself into 0, the tables nowhere, and says
// otherwise than the release's that there are no keys.
func TestVMAnotherFirmware(t *testing.T) {
	w := newPlainWorld(t)
	w.wrapQEMU("*/firmware.fd) argument=${argument%%file=*}file=" + hostFirmware + " ;;")
	w.start()
	w.signUp("ada")
	w.caught("ada", "pcr0", "pcr1", "pcr7")
}

// emptySSDT is a secondary table without code (ACPI specification 6.5, section
// 5.2.6): signature, length, revision, checksum, and who made it.
func emptySSDT() []byte {
	table := []byte("SSDT\x24\x00\x00\x00\x02\x00ADDED ADDEDTBL\x01\x00\x00\x00TEST\x01\x00\x00\x00")
	const checksum = 9
	for i, b := range table {
		if i != checksum {
			table[checksum] -= b
		}
	}
	return table
}
