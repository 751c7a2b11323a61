package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/disk"
	"github.com/toolshed-cloud/shed/providers/aws"
	"github.com/toolshed-cloud/shed/providers/aws/standin"
	"github.com/toolshed-cloud/shed/providers/aws/standin/guest"
)

// ec2 is a world whose machines are made by the AWS provider on the stand-in, and
// run as its guests.
type ec2 struct {
	*world
	cloud  *standin.Cloud
	guests *guest.Guests
}

// tool is one that make test installs and names in the environment.
func tool(t *testing.T, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Skipf("needs a tool that make test installs: set %s", variable)
	}
	return path
}

func newEC2(t *testing.T) *ec2 {
	t.Helper()
	needVM(t)
	python, uefivars := tool(t, "SHED_MOTO"), tool(t, "SHED_UEFIVARS")
	w := &ec2{world: newWorld(t)}
	self, err := os.Executable()
	w.must(err)
	w.guests = guest.New(guest.Options{
		Dir: w.place.in("guests"), Self: self, Firmware: "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", Reports: w.ports.Agents,
		Variables: func(uefiData string) ([]byte, error) { return storeOf(uefivars, uefiData) },
	})
	w.cloud, err = standin.Start(t.Context(), standin.Options{
		Python: python, MachineTag: aws.MachineTag, DriftTag: aws.InstallationTag, Now: time.Now, Guests: w.guests,
	})
	w.must(err)
	t.Cleanup(func() {
		if t.Failed() {
			for _, id := range w.guests.Running() {
				console, err := w.guests.Console(id)
				t.Logf("console of %s (%v):\n%s", id, err, console)
			}
		}
		if err := w.guests.Close(); err != nil {
			t.Errorf("ending the guests: %v", err)
		}
		if err := w.cloud.Close(); err != nil {
			t.Errorf("ending the stand-in: %v", err)
		}
	})
	w.place.cloud = &backend{
		Name: aws.Name, Region: "us-east-1", Size: "m6a.large", Settings: text(map[string]any{
			"region": "us-east-1", "access_key_id": "AKIAONE", "secret_access_key": "secret", "endpoint": w.cloud.URL,
			"api_limits": 1000, "sizes": []string{"m6a.large"},
		}),
	}
	_, err = w.place.configure(t.Context())
	w.must(err)
	w.env = []string{"SHED_AGENTS_ADVERTISE=" + guest.ReportAddress(w.ports.Agents), "SHED_POLICY_MINIMUM_TIER=provider-rooted"}
	w.releaseDir = w.secureRelease()
	return w
}

// storeOf is the store of variables that an image's UEFI data makes, by AWS's own
// tool: in the place of EC2's firmware, which reads it itself.
func storeOf(uefivars, uefiData string) ([]byte, error) {
	cmd := exec.Command(uefivars, "-i", "aws", "-o", "edk2")
	cmd.Stdin = strings.NewReader(uefiData)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("uefivars: %w: %s", err, &complaint)
	}
	// Behind the variables is where the firmware prepares its writes, which theirs
	// leaves to be made ready: under emulation that takes a minute.
	store, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
	if err != nil {
		return nil, err
	}
	const variables = 256 << 10
	if len(out) != len(store) {
		return nil, fmt.Errorf("uefivars made %d bytes, and the firmware has %d", len(out), len(store))
	}
	copy(store[:variables], out[:variables])
	return store, nil
}

// secureRelease is a signed release for a cloud's firmware with Secure Boot on,
// by keys of the test's own.
func (w *ec2) secureRelease() string {
	w.t.Helper()
	keys, output := w.place.in("keys", "secure-boot"), w.place.in("releases", "cloud")
	w.must(os.MkdirAll(keys, 0o700))
	for _, name := range []string{"PK", "KEK", "db"} {
		w.secureBootKey(keys, name)
	}
	w.must(w.place.shed(w.t.Context(), nil, "image", "build", "--output", output, "--cache", w.place.cache, "--shapes=", "--secure-boot-keys", keys,
		"--agent", w.place.program("shed-agent"), "--toolshed", w.place.program("toolshed")))
	uki := filepath.Join(output, imagebuild.UKIName)
	out, err := exec.Command("sbsign", "--key", filepath.Join(keys, "db.key"), "--cert", filepath.Join(keys, "db.crt"), "--output", uki, uki).CombinedOutput()
	if err != nil {
		w.t.Fatalf("sbsign: %v\n%s", err, out)
	}
	w.layOut(output, uki)
	built := place{root: built.dir, bin: w.place.bin}
	w.must(w.place.shed(w.t.Context(), nil, "image", "sign", "--key", built.releaseKey(), output))
	return output
}

// secureBootKey draws a key, and writes its certificate and the list with it alone
// (UEFI specification, section 32.4.1).
func (w *ec2) secureBootKey(dir, name string) {
	w.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	w.must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name + " of a test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	w.must(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	w.must(err)
	list := []byte{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	for _, n := range []int{28 + 16 + len(der), 0, 16 + len(der)} {
		list = binary.LittleEndian.AppendUint32(list, uint32(n)) //nolint:gosec // a certificate is small
	}
	list = append(append(list, make([]byte, 16)...), der...)
	for file, content := range map[string][]byte{
		".key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		".crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), ".esl": list,
	} {
		w.must(os.WriteFile(filepath.Join(dir, name+file), content, 0o600))
	}
}

// layOut makes the disk and the manifest those of the image with its signature.
func (w *ec2) layOut(output, uki string) {
	w.t.Helper()
	image, err := os.ReadFile(uki)
	w.must(err)
	f, err := os.Create(filepath.Join(output, imagebuild.DiskName))
	w.must(err)
	w.must(f.Truncate(disk.Size))
	w.must(disk.Write(f, append([]disk.File{{Path: "EFI/BOOT/BOOTX64.EFI", Data: image}}, w.payloadFiles(output)...)))
	w.must(f.Close())
	path := filepath.Join(output, imagebuild.ManifestName)
	text, err := os.ReadFile(path)
	w.must(err)
	m, err := release.ParseManifest(text)
	w.must(err)
	m.UKI = release.File{Name: m.UKI.Name, SHA256: attest.Sum(image), Bytes: int64(len(image))}
	whole, err := os.ReadFile(f.Name())
	w.must(err)
	m.Disk = release.File{Name: m.Disk.Name, SHA256: attest.Sum(whole), Bytes: int64(len(whole))}
	text, err = m.Encode()
	w.must(err)
	w.must(os.WriteFile(path, text, 0o600))
}

// untouched fails the test where anything but zeros is on a disk.
func (w *ec2) untouched(path string) {
	w.t.Helper()
	f, err := os.Open(path)
	w.must(err)
	defer f.Close() //nolint:errcheck // it was only read
	zeros := make([]byte, 1<<20)
	b := make([]byte, len(zeros))
	for {
		n, err := f.Read(b)
		if !bytes.Equal(b[:n], zeros[:n]) {
			w.t.Fatalf("%s was written", path)
		}
		if err == io.EOF {
			return
		}
		w.must(err)
	}
}

// A signup becomes a machine as EC2 would boot it, on the stand-in: the image as
// it was put by EBS direct, Secure Boot by the image's UEFI data, the
// configuration by IMDSv2, the data volume by what is on it, and a TPM that the
// cloud vouches for; it is claimed, and is itself again after a cut of the power.
func TestVMOnEC2(t *testing.T) {
	w := newEC2(t)
	w.start()
	w.signUp("ada")
	i := w.ready("ada")
	var seen struct {
		Tier string `json:"tier"`
	}
	w.must(w.place.shed(t.Context(), &seen, "instance", "show", i.ID))
	if seen.Tier != "provider-rooted" {
		t.Errorf("the control plane's tier is %q", seen.Tier)
	}
	vouching := "the control plane, of keys that its provider aws names"
	w.exits(0, []string{"verify", i.URL}, "accepted", vouching, "identity software", "owner: nobody's yet")
	w.exits(0, []string{"claim", i.URL}, "is yours")
	w.ask(i.URL, "PUT", "/api/kv/colour", "green")

	running := w.guests.Running()
	if len(running) != 1 {
		t.Fatalf("guests %v, want 1", running)
	}
	w.must(w.guests.Stop(running[0]))
	w.untouched(w.guests.HostDisk(running[0]))
	w.must(w.guests.Start(running[0]))
	w.eventually(0, "verify", i.URL)
	w.exits(0, []string{"verify", i.URL}, "as pinned", vouching, "owner: yours")
	w.serves(i.URL, "/api/kv/colour", "green")
	w.order(running[0])
	w.must(w.place.shed(t.Context(), nil, "instance", "delete", "--wait", i.ID))
	if left := w.guests.Running(); len(left) != 0 {
		t.Errorf("guests are left: %v", left)
	}
}

// serves waits until the toolshed answers, which it does some time after the
// machine can prove itself.
func (w *ec2) serves(url, path, want string) {
	w.t.Helper()
	x, err := w.place.connect(w.t.Context(), url, 0)
	w.must(err)
	defer x.stop() //nolint:errcheck // the answer counts
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	var got string
	var asked error
	err = poll(ctx, 200*time.Millisecond, func() (bool, error) {
		got, asked = x.ask(ctx, "GET", path, "")
		return asked == nil, nil
	})
	if err != nil || got != want {
		w.t.Errorf("%s is %q, want %q: %v", path, got, want, asked)
	}
}

// order holds that the data was opened before the network was up, and that before
// the machine had its configuration.
func (w *ec2) order(instance string) {
	w.t.Helper()
	console, err := w.guests.Console(instance)
	w.must(err)
	at := -1
	for _, step := range []string{`"msg":"data"`, `"msg":"network"`, `"msg":"configuration"`, `"msg":"serving"`} {
		n := bytes.LastIndex(console, []byte(step))
		if n < at || n < 0 {
			w.t.Errorf("%s is at %d, after %d:\n%s", step, n, at, console)
		}
		at = n
	}
}
