package board

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestShapesAreReadAsWritten(t *testing.T) {
	for _, want := range []Shape{{1, 128 << 20}, {2, 512 << 20}, {64, 32 << 30}} {
		if got, err := ParseShape(want.String()); got != want || err != nil {
			t.Errorf("%s: got %v, %v", want, got, err)
		}
	}
	for _, text := range []string{
		"", "2", "2x", "x512MiB", "2x512", "2x512MB", "0x512MiB", "65x512MiB", "2x127MiB", "2x32769MiB", "2x512MiBx", "-1x512MiB", "2x99999999999999999999MiB",
	} {
		if got, err := ParseShape(text); !errors.Is(err, ErrShape) {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	if err := (Shape{VCPUs: 1, MemoryBytes: 200<<20 + 1}).Check(); !errors.Is(err, ErrShape) {
		t.Errorf("half a mebibyte: %v", err)
	}
}

// TestEveryDeviceHasItsPlace: the tables name places on the bus, so none may
// follow from the order of arguments.
func TestEveryDeviceHasItsPlace(t *testing.T) {
	for _, model := range []Model{{}, {SecureBoot: true}, {Architecture: ARM64}, {Architecture: ARM64, SecureBoot: true}} {
		args := model.Args(Shape{VCPUs: 2, MemoryBytes: 512 << 20})
		var places []string
		for i, arg := range args {
			if i == 0 || args[i-1] != "-device" || !strings.Contains(arg, "-pci,") {
				continue
			}
			_, rest, found := strings.Cut(arg, ",addr=")
			place, _, _ := strings.Cut(rest, ",")
			if !found || slices.Contains(places, place) {
				t.Errorf("%+v: %s has no place of its own", model, arg)
			}
			places = append(places, place)
		}
		if len(places) != 5 {
			t.Errorf("%+v: %d devices on the bus, want 5", model, len(places))
		}
	}
}

// Where the firmware has keys, nothing else in the machine writes its variables;
// and where a firmware knows no such mode it would have none that last.
func TestVariablesAreTheFirmwaresAlone(t *testing.T) {
	for _, c := range []struct {
		model Model
		want  bool
	}{{Model{}, false}, {Model{Architecture: AMD64}, false}, {Model{SecureBoot: true}, true}, {Model{Architecture: ARM64, SecureBoot: true}, false}} {
		args := strings.Join(c.model.Args(Shape{VCPUs: 1, MemoryBytes: 1 << 30}), " ")
		if strings.Contains(args, "smm=on") != c.want || strings.Contains(args, "property=secure,value=on") != c.want {
			t.Errorf("%+v: %s", c.model, args)
		}
	}
}

func FuzzParseShape(f *testing.F) {
	f.Add("2x512MiB")
	f.Add("x")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseShape(text)
		if err != nil {
			if !errors.Is(err, ErrShape) {
				t.Errorf("error %v of no known kind", err)
			}
			return
		}
		if again, err := ParseShape(s.String()); again != s || err != nil {
			t.Errorf("%q is read as %v and that as %v, %v", text, s, again, err)
		}
	})
}
