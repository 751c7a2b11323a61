package aws_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws/uefidata"
)

// keys are files of Secure Boot's variables, with what they hold.
func keys(t *testing.T, names ...string) (all []providers.Key) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		path := filepath.Join(dir, name+".esl")
		if err := os.WriteFile(path, []byte("list of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
		sum := attest.Sum([]byte("list of " + name))
		all = append(all, providers.Key{Name: name, File: providers.File{Path: path, SHA256: sum, Bytes: int64(len("list of " + name))}})
	}
	return all
}

// An image of a release with Secure Boot's keys is registered with them as its
// firmware's variables, and one without with none.
func TestImageHasItsKeys(t *testing.T) {
	w := newWorld(t, 0, nil)
	registered := func() string {
		out, err := w.ec2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{})
		if err != nil || len(out.Images) != 1 {
			t.Fatalf("%d images, %v", len(out.Images), err)
		}
		return w.cloud.UefiData(*out.Images[0].ImageId)
	}
	w.image.SecureBoot = keys(t, "PK", "KEK", "db", "dbx")
	if err := w.p.EnsureImage(t.Context(), w.image, nil); err != nil {
		t.Fatal(err)
	}
	got, err := uefidata.Decode(registered(), nil)
	want := uefidata.SecureBoot([]byte("list of PK"), []byte("list of KEK"), []byte("list of db"), []byte("list of dbx"))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("registered with %+v, %v", got, err)
	}

	plain := newWorld(t, 0, nil)
	if err := plain.p.EnsureImage(t.Context(), plain.image, nil); err != nil {
		t.Fatal(err)
	}
	w = plain
	if text := registered(); text != "" {
		t.Errorf("without keys it is registered with %q", text)
	}
}

// Keys that are not those of the release have nothing uploaded.
func TestImageWithWrongKeys(t *testing.T) {
	w := newWorld(t, 0, nil)
	for name, spoil := range map[string]func([]providers.Key) []providers.Key{
		"none of db": func(k []providers.Key) []providers.Key { return k[:2] },
		"one twice":  func(k []providers.Key) []providers.Key { return append(k, k[0]) },
		"unknown":    func(k []providers.Key) []providers.Key { k[0].Name = "MOK"; return k },
		"absent":     func(k []providers.Key) []providers.Key { k[0].Path += ".absent"; return k },
		"changed":    func(k []providers.Key) []providers.Key { k[0].SHA256[0]++; return k },
		"longer":     func(k []providers.Key) []providers.Key { k[0].Bytes++; return k },
	} {
		image := w.image
		image.SecureBoot = spoil(keys(t, "PK", "KEK", "db"))
		if err := w.p.EnsureImage(t.Context(), image, nil); providers.CodeOf(err) != providers.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if out, err := w.ec2.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}}); err != nil || len(out.Snapshots) != 0 {
		t.Errorf("%d snapshots, %v", len(out.Snapshots), err)
	}
}
