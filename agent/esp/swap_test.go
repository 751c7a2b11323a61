package esp_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/toolshed-cloud/shed/agent/esp"
	"github.com/toolshed-cloud/shed/imagebuild/disk"
)

// Two files change places by one sector or not at all: where their names are in two,
// nothing is written.
func TestNamesInTwoSectorsStay(t *testing.T) {
	files := []disk.File{{Path: boot, Data: []byte("old")}}
	for i := range 20 {
		files = append(files, disk.File{Path: fmt.Sprintf("EFI/BOOT/FILE%02d.BIN", i), Data: []byte("between")})
	}
	r := &recorder{File: image(t, append(files, disk.File{Path: next, Data: []byte("new")})...)}
	v := open(t, r)
	if err := v.Swap(boot, next); !errors.Is(err, esp.ErrLayout) || len(r.writes) > 0 {
		t.Errorf("%v, after %d writes", err, len(r.writes))
	}
	if got := content(t, open(t, r), boot); !bytes.Equal(got, []byte("old")) {
		t.Errorf("the machine starts with %q", got)
	}
}
