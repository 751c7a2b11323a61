package qemu

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/proc"
)

// The files of the CA's directory. ek-root.pem is for those who verify: it is
// the certificate that signs every machine's endorsement certificate.
const (
	caRootFile    = "ek-root.pem"
	caKeyFile     = "signkey.pem"
	caSerialFile  = "certserial"
	caConfigFile  = "localca.conf"
	caOptionsFile = "localca.options"
	setupFile     = "setup.conf"
)

// ensureCA makes the CA that vouches for this provider's TPMs. swtpm_localca
// would make one of two levels when first used; one made before has a single
// certificate to hand out, and no two machines race to make it.
func (c *config) ensureCA(now time.Time) error {
	made, err := exists(c.path(caDir))
	if err != nil {
		return err
	}
	if !made {
		if err := c.makeCA(now); err != nil {
			return err
		}
	}
	// These name paths, and the state directory may have been moved.
	localCA := fmt.Sprintf("statedir = %[1]s\nsigningkey = %[1]s/%[2]s\nissuercert = %[1]s/%[3]s\ncertserial = %[1]s/%[4]s\n",
		c.path(caDir), caKeyFile, caRootFile, caSerialFile)
	if err := statefile.Write(c.path(caDir, caConfigFile), 0o600, []byte(localCA)); err != nil {
		return err
	}
	setup := fmt.Sprintf("create_certs_tool = %s\ncreate_certs_tool_config = %[2]s/%[3]s\ncreate_certs_tool_options = %[2]s/%[4]s\n",
		c.tools.swtpmLocalCA, c.path(caDir), caConfigFile, caOptionsFile)
	return statefile.Write(c.path(caDir, setupFile), 0o600, []byte(setup))
}

// makeCA builds the directory beside its place, so that one that a crash left
// half-made is not taken for a CA.
func (c *config) makeCA(now time.Time) error {
	key, root, err := newCA(now)
	if err != nil {
		return err
	}
	fresh := c.path(tempDir, caDir)
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	for _, file := range []struct {
		name    string
		content []byte
		mode    os.FileMode
	}{
		{caKeyFile, key, 0o600},
		{caRootFile, root, 0o644},
		{caSerialFile, []byte("1"), 0o600},
		{caOptionsFile, nil, 0o600},
	} {
		if err := statefile.Write(filepath.Join(fresh, file.name), file.mode, file.content); err != nil {
			return err
		}
	}
	if err := os.Rename(fresh, c.path(caDir)); err != nil {
		return err
	}
	return statefile.SyncDir(c.StateDir)
}

// newCA answers a key and its certificate, PEM.
func newCA(now time.Time) (key, cert []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making the key of the TPMs' CA: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, fmt.Errorf("making the serial of the TPMs' CA: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Shed local TPM root " + serial.Text(36)},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(20, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, nil, fmt.Errorf("making the certificate of the TPMs' CA: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding the key of the TPMs' CA: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// manufacture makes a machine's TPM: its state, and the endorsement
// certificate that the CA signs. It appears as a whole or not at all, for a
// TPM made twice is another machine's.
func (c *config) manufacture(ctx context.Context, id providers.MachineID) (err error) {
	target := filepath.Join(c.machineDir(id), tpmDir)
	made, err := exists(target)
	if err != nil || made {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// It takes a second and is not interrupted: killed, it leaves files that
	// are nobody's in the system's temporary directory.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), setupPatience)
	defer cancel()
	work, err := os.MkdirTemp(c.path(tempDir), tpmDir+"-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	fresh := filepath.Join(work, tpmDir)
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, c.tools.swtpmSetup,
		"--tpm2", "--ecc", "--create-ek-cert",
		"--tpm-state", "dir://"+fresh,
		"--config", c.path(caDir, setupFile),
		"--pcr-banks", "sha256,sha384",
		"--vmid", string(id),
		"--write-ek-cert-files", fresh,
	)
	cmd.Env = append(os.Environ(), "TMPDIR="+work)
	endWithItsChildren(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("making the TPM: swtpm_setup: %w: %s", err, lastLines(out))
	}
	if err := takeEKCertificate(fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, target); err != nil {
		return err
	}
	return statefile.SyncDir(c.machineDir(id))
}

// endUsers ends what swtpm_setup has started on dir, or below it, and itself.
// It looks until nothing is found: what is ended may just have started more.
func endUsers(ctx context.Context, dir string) error {
	uses := func(args []string) bool {
		return strings.HasPrefix(filepath.Base(args[0]), programSWTPM) &&
			slices.ContainsFunc(args, func(arg string) bool { return strings.Contains(arg, "dir://"+dir) })
	}
	for {
		found, err := proc.Scan(uses)
		if err != nil || len(found) == 0 {
			return err
		}
		for _, f := range found {
			if err := endStray(ctx, f.ID); err != nil {
				return err
			}
		}
	}
}

// setupPatience is how long swtpm_setup may take on a host with much to do.
const setupPatience = 30 * time.Second

// outputPatience is how long the output of a tool that was killed is waited
// for.
const outputPatience = time.Second

// endWithItsChildren has a tool's context end what the tool has started too:
// swtpm_setup starts a TPM, which would serve nobody for ever.
func endWithItsChildren(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		if err := unix.Kill(-cmd.Process.Pid, unix.SIGKILL); !errors.Is(err, unix.ESRCH) {
			return err
		}
		return os.ErrProcessDone
	}
	cmd.WaitDelay = outputPatience
}

// takeEKCertificate keeps the certificate of the endorsement key on a curve,
// which is the one that the agent enrols with; swtpm_setup makes one for an RSA
// key too.
func takeEKCertificate(dir string) error {
	written, err := filepath.Glob(filepath.Join(dir, "ek-*.crt"))
	if err != nil {
		return err
	}
	for _, path := range written {
		der, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("reading the endorsement certificate: %w", err)
		}
		if cert.PublicKeyAlgorithm == x509.ECDSA {
			return os.Rename(path, filepath.Join(dir, ekFile))
		}
	}
	return errors.New("swtpm_setup wrote no certificate of an endorsement key on a curve")
}

// lastLines is the end of what a tool said, which is where it says why.
func lastLines(out []byte) string {
	const lines, most = 3, 512
	said := strings.Split(strings.TrimSpace(string(out)), "\n")
	text := strings.Join(said[max(0, len(said)-lines):], "; ")
	return text[max(0, len(text)-most):]
}
