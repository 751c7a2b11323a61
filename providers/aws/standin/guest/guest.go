// Package guest boots machines in QEMU for the instances of AWS's stand-in, which
// look to what runs in them as EC2's do, as far as that is documented: NVMe disks
// with the serial numbers of EBS volumes, one more of the instance's host, a TPM
// without an endorsement certificate, the firmware's tables, its variables from
// the image's UEFI data, and the instance metadata service at its address.
//
// It is no EC2: there is no ENA card, no hop limit, no confidential memory, and
// the TPM is an emulator's. Invariants: it is for tests alone; a guest reaches
// nothing but its metadata service and what it is to report to; its port is on
// loopback; and Close leaves neither a process nor a socket behind.
package guest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/providers/aws/standin"
)

// Options say how guests are made; all are needed.
type Options struct {
	// Dir keeps their files. Its path is short, as those of sockets are.
	Dir string
	// Self is a program whose main calls Relay for RelayCommand.
	Self string
	// Firmware is the code of an UEFI with Secure Boot, and Variables makes its
	// store of variables out of an image's UEFI data.
	Firmware  string
	Variables func(uefiData string) ([]byte, error)
	// Reports is the port on this host's loopback that guests may reach, as
	// ReportAddress.
	Reports int
}

// The addresses in a guest's network, which is all link-local, since QEMU serves
// only addresses of the guest's own network.
const (
	network  = "169.254.0.0/16"
	metadata = "169.254.169.254"
	reports  = "169.254.0.100"
)

// ReportAddress is where a guest reaches Reports.
func ReportAddress(port int) string { return fmt.Sprintf("%s:%d", reports, port) }

// Guests are the machines of one stand-in.
type Guests struct {
	o Options

	mu sync.Mutex
	// guests by instance. Guarded by mu.
	guests map[string]*guest
}

var _ standin.Guests = (*Guests)(nil)

// New answers no guests.
func New(o Options) *Guests { return &Guests{o: o, guests: map[string]*guest{}} }

type guest struct {
	standin.Instance
	dir  string
	key  []byte
	imds *imds

	// power lets one thing happen to it at a time.
	power sync.Mutex
	// processes are its TPM and QEMU. Guarded by power.
	processes []*exec.Cmd
}

// hostDisk is the serial number of a disk of the instance's host:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ssd-instance-store.html
const hostDisk = "AWS22A4E2A6DD1A4CE7F"

// Launch implements standin.Guests.
func (g *Guests) Launch(i standin.Instance) (err error) {
	made := &guest{Instance: i, dir: filepath.Join(g.o.Dir, i.ID)}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("starting a guest: %w", err), made.end())
		}
	}()
	if err := os.MkdirAll(made.dir, 0o700); err != nil {
		return err
	}
	if err := made.disks(); err != nil {
		return err
	}
	store, err := g.o.Variables(i.UefiData)
	if err != nil {
		return err
	}
	if err := os.WriteFile(made.in("variables.fd"), store, 0o600); err != nil {
		return err
	}
	if made.key, err = manufacture(made.in("tpm")); err != nil {
		return err
	}
	if made.imds, err = serveMetadata(i.UserData); err != nil {
		return err
	}
	made.power.Lock()
	err = made.powerOn(g.o)
	made.power.Unlock()
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.guests[i.ID] = made
	return nil
}

func (g *guest) in(name string) string { return filepath.Join(g.dir, name) }

// disks writes the root volume as the image's blocks have it, and blank others.
func (g *guest) disks() error {
	root, err := os.Create(g.in("root.raw"))
	if err != nil {
		return err
	}
	err = root.Truncate(g.Volumes[0].Bytes)
	for n, block := range g.Root {
		if err == nil {
			_, err = root.WriteAt(block, int64(n)*standin.BlockBytes)
		}
	}
	if err := errors.Join(err, root.Close()); err != nil {
		return err
	}
	for name, size := range map[string]int64{"data.raw": g.Volumes[1].Bytes, "host.raw": 1 << 30} {
		err := os.WriteFile(g.in(name), nil, 0o600)
		if err := errors.Join(err, os.Truncate(g.in(name), size)); err != nil {
			return err
		}
	}
	return nil
}

// powerOn starts the TPM and then QEMU, which ends it. The caller holds power.
func (g *guest) powerOn(o Options) error {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: g.in("tpm.sock"), Net: "unix"})
	if err != nil {
		return err
	}
	listener.SetUnlinkOnClose(true)
	defer listener.Close() //nolint:errcheck // the TPM has its own
	socket, err := listener.File()
	if err != nil {
		return err
	}
	defer socket.Close() //nolint:errcheck // as above
	listener.SetUnlinkOnClose(false)
	swtpm := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+g.in("tpm"), "--ctrl", "type=unixio,fd=3", "--terminate")
	swtpm.ExtraFiles = []*os.File{socket}
	if err := g.start(swtpm, "swtpm.log"); err != nil {
		return err
	}
	return g.start(exec.Command("qemu-system-x86_64", g.args(o)...), "qemu.log")
}

func (g *guest) start(cmd *exec.Cmd, log string) error {
	f, err := os.OpenFile(g.in(log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // the process has its own
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		return err
	}
	g.processes = append(g.processes, cmd)
	return nil
}

func (g *guest) args(o Options) []string {
	disk := func(name, file, serial string, more string) []string {
		return []string{
			"-drive", "if=none,format=raw,discard=unmap,id=" + name + ",file=" + g.in(file),
			"-device", "nvme,drive=" + name + ",serial=" + serial + more,
		}
	}
	serial := func(v standin.Volume) string { return strings.ReplaceAll(v.ID, "-", "") }
	forward := func(address string, port int, to string) string {
		return fmt.Sprintf("guestfwd=tcp:%s:%d-cmd:%s %s %s", address, port, o.Self, RelayCommand, to)
	}
	args := append(board.Model{Architecture: board.AMD64}.Emulated(),
		"-machine", "q35,smm=on,hpet=off,vmport=off", "-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1",
		"-smp", "1", "-m", "512", "-nodefaults", "-no-user-config", "-display", "none",
		"-smbios", "type=1,manufacturer=Amazon EC2,product=m6a.large",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+o.Firmware,
		"-drive", "if=pflash,format=raw,unit=1,file="+g.in("variables.fd"),
		"-chardev", "file,append=on,id=console,path="+g.in("console.log"), "-serial", "chardev:console",
		"-chardev", "socket,id=tpm,path="+g.in("tpm.sock"), "-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm",
		"-netdev", strings.Join([]string{
			"user,id=net,restrict=on,net=" + network, "hostfwd=tcp:" + g.Address + ":443-:443",
			forward(metadata, 80, g.imds.address), forward(reports, o.Reports, fmt.Sprintf("127.0.0.1:%d", o.Reports)),
		}, ","),
		// An option ROM would show in register 2, as EC2's machines have none.
		"-device", "virtio-net-pci,netdev=net,romfile=")
	// The names that the kernel gives them follow no order of ours.
	args = append(args, disk("data", "data.raw", serial(g.Volumes[1]), "")...)
	args = append(args, disk("host", "host.raw", hostDisk, "")...)
	return append(args, disk("root", "root.raw", serial(g.Volumes[0]), ",bootindex=1")...)
}

// stopWait is how long a killed process may take to be gone.
const stopWait = 10 * time.Second

// powerOff cuts the power. The caller holds power.
func (g *guest) powerOff() error {
	var errs []error
	for _, cmd := range g.processes {
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, err)
			continue
		}
		cmd.Wait() //nolint:errcheck // it was killed
	}
	g.processes = nil
	if err := os.Remove(g.in("tpm.sock")); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (g *guest) end() error {
	g.power.Lock()
	defer g.power.Unlock()
	err := g.powerOff()
	if g.imds != nil {
		err = errors.Join(err, g.imds.server.Close())
	}
	return err
}

// ErrNoGuest says that no guest runs for an instance.
var ErrNoGuest = errors.New("no guest runs for this instance")

func (g *Guests) find(instance string) (*guest, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if found, ok := g.guests[instance]; ok {
		return found, nil
	}
	return nil, fmt.Errorf("%s: %w", instance, ErrNoGuest)
}

// Stop implements standin.Guests.
func (g *Guests) Stop(instance string) error {
	found, err := g.find(instance)
	if err != nil {
		return err
	}
	found.power.Lock()
	defer found.power.Unlock()
	return found.powerOff()
}

// Start implements standin.Guests.
func (g *Guests) Start(instance string) error {
	found, err := g.find(instance)
	if err != nil {
		return err
	}
	found.power.Lock()
	defer found.power.Unlock()
	return errors.Join(found.powerOff(), found.powerOn(g.o))
}

// End implements standin.Guests.
func (g *Guests) End(instance string) error {
	found, err := g.find(instance)
	if err != nil {
		return err
	}
	g.mu.Lock()
	delete(g.guests, instance)
	g.mu.Unlock()
	return errors.Join(found.end(), os.RemoveAll(found.dir))
}

// EndorsementKey implements standin.Guests.
func (g *Guests) EndorsementKey(_ context.Context, instance string) ([]byte, error) {
	found, err := g.find(instance)
	if err != nil {
		return nil, err
	}
	return found.key, nil
}

// Running are the instances that guests run for.
func (g *Guests) Running() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []string
	for id := range g.guests {
		all = append(all, id)
	}
	return all
}

// Console is what a guest has printed.
func (g *Guests) Console(instance string) ([]byte, error) {
	return os.ReadFile(filepath.Join(g.o.Dir, instance, "console.log"))
}

// HostDisk is the disk of an instance's host, and DataDisk its data volume.
func (g *Guests) HostDisk(instance string) string {
	return filepath.Join(g.o.Dir, instance, "host.raw")
}

// DataDisk is an instance's data volume.
func (g *Guests) DataDisk(instance string) string {
	return filepath.Join(g.o.Dir, instance, "data.raw")
}

// Close ends all of them.
func (g *Guests) Close() error {
	var errs []error
	for _, id := range g.Running() {
		errs = append(errs, g.End(id))
	}
	return errors.Join(errs...)
}

// imds is an instance metadata service, version 2 alone:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
type imds struct {
	server   *http.Server
	address  string
	userData []byte

	mu sync.Mutex
	// tokens are those that were handed out. Guarded by mu.
	tokens map[string]bool
}

func serveMetadata(userData []byte) (*imds, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	i := &imds{address: l.Addr().String(), userData: userData, tokens: map[string]bool{}}
	i.server = &http.Server{Handler: i, ReadHeaderTimeout: stopWait}
	go i.server.Serve(l) //nolint:errcheck // it ends when it is closed
	return i, nil
}

func (i *imds) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
		if r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		token := make([]byte, 28)
		_, _ = rand.Read(token)
		i.tokens[hex.EncodeToString(token)] = true
		_, _ = io.WriteString(w, hex.EncodeToString(token))
	case !i.tokens[r.Header.Get("X-aws-ec2-metadata-token")]:
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method == http.MethodGet && r.URL.Path == "/latest/user-data":
		_, _ = w.Write(i.userData)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}
