package libvirt

import (
	"strings"
	"testing"
)

// described is the description that a host of ours gives of the example.
func described(tb testing.TB) string {
	tb.Helper()
	h := &host{hostSettings: hostSettings{Name: "a", Address: "127.0.0.1", Accel: accelTCG, Firmware: "/f", FirmwareVariables: "/v"}}
	l := &link{}
	l.pool.description = poolXML{Type: poolDir, Path: "/p"}
	l.files = l.pool
	text, err := h.render(l, example(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

func TestDescriptionIsBounded(t *testing.T) {
	text := described(t)
	if got, err := differs(text, example()); got != "" || err != nil {
		t.Errorf("what was written differs: %q, %v", got, err)
	}
	if _, err := differs(text+strings.Repeat(" ", maxDomainBytes), example()); err == nil {
		t.Error("a description without bounds is read")
	}
}

// A description agrees with one set of tags alone.
func FuzzDiffers(f *testing.F) {
	text := described(f)
	for _, seed := range []string{
		text, text[:len(text)/2], strings.Replace(text, "shed-data", "other", 1), strings.Replace(text, "KiB", "MiB", 1),
		"<domain/>", "<domain><vcpu>x</vcpu></domain>", "<!DOCTYPE d [<!ENTITY a 'b'>]><domain>&a;</domain>",
	} {
		f.Add(seed)
	}
	larger := example()
	larger.VCPUs++
	f.Fuzz(func(t *testing.T, description string) {
		got, err := differs(description, example())
		if err != nil || got != "" {
			return
		}
		if got, err := differs(description, larger); err != nil || got == "" {
			t.Errorf("%q agrees with a machine of %d processors and one of %d: %v", description, example().VCPUs, larger.VCPUs, err)
		}
	})
}
