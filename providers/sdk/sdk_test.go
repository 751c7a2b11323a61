package sdk_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

const id = "aaaaaaaaaaaaaaaaaaaaaaaaaa"

var offered = []providers.Offering{{Region: "a", Size: "small"}, {Region: "b", Size: "small"}, {Region: "b", Size: "large"}}

func request() providers.CreateRequest {
	return providers.CreateRequest{Installation: id, Machine: id, Spec: providers.Spec{
		Release: attest.ReleaseDigest{1}, Region: "b", Size: "large", DataBytes: 1, Config: []byte("c"),
	}}
}

func TestCheckCreateNamesTheField(t *testing.T) {
	if o, err := sdk.CheckCreate(request(), offered); err != nil || o != offered[2] {
		t.Errorf("%+v, %v", o, err)
	}
	for field, spoil := range map[string]func(*providers.CreateRequest){
		"machine":                         func(r *providers.CreateRequest) { r.Machine = "../x" },
		"installation":                    func(r *providers.CreateRequest) { r.Installation = "" },
		"release":                         func(r *providers.CreateRequest) { r.Spec.Release = attest.ReleaseDigest{} },
		"data_bytes":                      func(r *providers.CreateRequest) { r.Spec.DataBytes = 0 },
		"config":                          func(r *providers.CreateRequest) { r.Spec.Config = make([]byte, sdk.MaxConfigBytes+1) },
		`region "c" is not offered: a, b`: func(r *providers.CreateRequest) { r.Spec.Region = "c" },
		`size "huge" is not offered: large, small`: func(r *providers.CreateRequest) { r.Spec.Size = "huge" },
	} {
		r := request()
		spoil(&r)
		if _, err := sdk.CheckCreate(r, offered); providers.CodeOf(err) != providers.CodeInvalid || !strings.Contains(fmt.Sprint(err), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	r := request()
	r.Spec.Region, r.Spec.Size = "", ""
	if o, err := sdk.CheckCreate(r, offered); err != nil || o != offered[0] {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestSettings(t *testing.T) {
	var s struct {
		Dir string `json:"dir"`
	}
	if err := sdk.Settings([]byte(`{"dir":"/x"}`), &s); err != nil || s.Dir != "/x" {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{`{"other":1}`, `null`, `[]`, ``, `{"dir":"` + strings.Repeat("x", sdk.MaxSettingsBytes) + `"}`} {
		if err := sdk.Settings([]byte(bad), &s); providers.CodeOf(err) != providers.CodeInvalid {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

func TestCopyImageTakesWhatWasPromisedAlone(t *testing.T) {
	disk := bytes.Repeat([]byte("disk"), 3<<20)
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	want := providers.File{Path: path, SHA256: attest.Sum(disk), Bytes: int64(len(disk))}
	var copied bytes.Buffer
	var last int64
	if err := sdk.CopyImage(t.Context(), &copied, want, func(done, _ int64) { last = done }); err != nil || !bytes.Equal(copied.Bytes(), disk) || last != want.Bytes {
		t.Errorf("%d bytes, progress %d: %v", copied.Len(), last, err)
	}
	for name, spoil := range map[string]func(*providers.File){
		"short": func(f *providers.File) { f.Bytes++ }, "long": func(f *providers.File) { f.Bytes-- },
		"other": func(f *providers.File) { f.SHA256[0] ^= 1 }, "none": func(f *providers.File) { f.Path += "x" },
	} {
		wrong := want
		spoil(&wrong)
		if err := sdk.CopyImage(t.Context(), &copied, wrong, nil); providers.CodeOf(err) != providers.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sdk.CopyImage(ctx, &copied, want, nil); providers.CodeOf(err) != providers.CodeUnavailable {
		t.Errorf("given up: %v", err)
	}
}

func TestPages(t *testing.T) {
	var ids []providers.MachineID
	for n := range sdk.PageSize + 5 {
		ids = append(ids, providers.MachineID(fmt.Sprintf("%03d", (n*37)%(sdk.PageSize+5))))
	}
	first, next := sdk.Page(ids, "")
	if len(first) != sdk.PageSize || next != "099" {
		t.Errorf("%d, then %q", len(first), next)
	}
	second, end := sdk.Page(ids, next)
	if len(second) != 5 || second[0] != "100" || end != "" {
		t.Errorf("%v, then %q", second, end)
	}
	if rest, end := sdk.Page(ids, "zzz"); len(rest) != 0 || end != "" {
		t.Errorf("%v, then %q", rest, end)
	}
}

func TestChanges(t *testing.T) {
	m := providers.Machine{Generation: 5}
	for _, c := range []struct {
		change providers.Change
		want   providers.Code
	}{
		{providers.Change{Generation: 5}, ""}, {providers.Change{Generation: 6, DataBytes: 8}, ""}, {providers.Change{Generation: 6, DataBytes: 9}, ""},
		{providers.Change{Generation: 4}, providers.CodeConflict}, {providers.Change{Generation: 6, DataBytes: 7}, providers.CodeInvalid},
	} {
		if err := sdk.CheckChange(m, 8, c.change); providers.CodeOf(err) != c.want {
			t.Errorf("%+v: %v", c.change, err)
		}
	}
}
