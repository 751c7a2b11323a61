package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/qcow2"
	"github.com/toolshed-cloud/shed/imagebuild/secureboot"
	"github.com/toolshed-cloud/shed/providers/aws/uefidata"
)

const imageConvertLong = `convert makes of a release in DIR what another system takes, and leaves DIR as it
is. The disk is first compared with its digest in the manifest.

  --to qcow2 --output FILE   QEMU's format, without its zeros
  --to ami --output DIR2     what an AMI needs: the disk, and beside it
      register-image.json    for aws ec2 register-image --cli-input-json, once
                             SnapshotId names a snapshot of the disk
      uefi-data.txt          the variables with Secure Boot's keys, where the
                             release was built with some: it is in the former too
      measurements.json      registers 4, 7 and 12 in SHA-384, as nitro-tpm-pcr-compute
                             prints them and as policies of KMS name them

The same release gives the same bytes. An AMI is of a release that leaves the
firmware to the cloud: shed image build --shapes= --secure-boot-keys KEYS.`

// convertOptions are the flags of image convert.
type convertOptions struct{ to, output string }

func newImageConvertCommand() *cobra.Command {
	var o convertOptions
	cmd := &cobra.Command{
		Use:   "convert DIR --to qcow2|ami --output PATH",
		Short: "make a qcow2 of a release, or what an AMI needs",
		Long:  imageConvertLong,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := openRelease(args[0])
			if err != nil {
				return explainRegistry(err, "shed image build makes a release, shed image pull fetches one")
			}
			switch o.to {
			case "qcow2":
				err = r.qcow2(cmd, o.output)
			case "ami":
				err = r.ami(cmd, o.output)
			default:
				return cli.Usage(fmt.Errorf("format %q is neither qcow2 nor ami", o.to))
			}
			return err
		},
	}
	cmd.Flags().StringVar(&o.to, "to", "", "qcow2 or ami")
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "file, for ami directory, to write")
	cobra.CheckErr(cmd.MarkFlagRequired("to"))
	cobra.CheckErr(cmd.MarkFlagRequired("output"))
	return cmd
}

// openedRelease is one in a directory.
type openedRelease struct {
	dir      string
	manifest *release.Manifest
	digest   attest.ReleaseDigest
}

func openRelease(dir string) (*openedRelease, error) {
	f, err := os.Open(filepath.Join(dir, imagebuild.ManifestName))
	if err != nil {
		return nil, fmt.Errorf("reading the release: %w", err)
	}
	defer f.Close()
	b := make([]byte, release.MaxManifestBytes+1)
	n, err := readFull(f, b)
	if err != nil {
		return nil, fmt.Errorf("reading the release: %w", err)
	}
	m, err := release.ParseManifest(b[:n])
	if err != nil {
		return nil, err
	}
	return &openedRelease{dir: dir, manifest: m, digest: attest.ReleaseDigest(attest.Sum(b[:n]))}, nil
}

// disk opens the disk, which is the one that the manifest states.
func (r *openedRelease) disk() (*os.File, error) {
	f, err := os.Open(filepath.Join(r.dir, r.manifest.Disk.Name))
	if err != nil {
		return nil, fmt.Errorf("reading the disk: %w", err)
	}
	if err := checkFile(f, r.manifest.Disk); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (r *openedRelease) qcow2(cmd *cobra.Command, output string) error {
	disk, err := r.disk()
	if err != nil {
		return err
	}
	defer disk.Close()
	bars := newTransferBars(cmd)
	size := r.manifest.Disk.Bytes
	err = statefile.Fill(output, 0o644, func(f *os.File) error {
		return qcow2.Write(f, disk, size, func(done int64) { bars.tell(filepath.Base(output), min(done, size), size) })
	})
	bars.end()
	if err != nil {
		return err
	}
	info, err := os.Stat(output)
	if err != nil {
		return fmt.Errorf("looking at what was written: %w", err)
	}
	return cli.PrintResult(cmd, struct {
		Output  string               `json:"output"`
		Release attest.ReleaseDigest `json:"release"`
		Bytes   int64                `json:"bytes"`
	}{output, r.digest, info.Size()}, "%s: %d bytes, a disk of %d\n", output, info.Size(), size)
}

// measurements are as nitro-tpm-pcr-compute prints them.
type measurements struct {
	Measurements struct {
		HashAlgorithm string `json:"HashAlgorithm"`
		PCR4          string `json:"PCR4"`
		PCR7          string `json:"PCR7"`
		PCR12         string `json:"PCR12"`
	} `json:"Measurements"`
}

// amiRequest is as much of RegisterImage as a release decides.
type amiRequest struct {
	Name, Architecture, VirtualizationType, BootMode, TpmSupport, ImdsSupport, RootDeviceName string
	EnaSupport                                                                                bool
	UefiData                                                                                  string `json:",omitempty"`
	BlockDeviceMappings                                                                       []amiDevice
}

type amiDevice struct {
	DeviceName string
	Ebs        struct {
		SnapshotID          string `json:"SnapshotId"`
		VolumeType          string
		DeleteOnTermination bool
	}
}

// amiRoot is the boot disk's name.
const amiRoot = "/dev/xvda"

// awsNames are EC2's of architectures.
var awsNames = map[string]string{board.AMD64: "x86_64", board.ARM64: "arm64"}

func (r *openedRelease) ami(cmd *cobra.Command, output string) error {
	m := r.manifest
	if m.Firmware != nil {
		return cli.Hinted(cli.Usage(fmt.Errorf("release %s has its own firmware, and EC2 has its own", r.digest)),
			"build it with: shed image build --shapes= --secure-boot-keys KEYS")
	}
	variables, err := r.variables()
	if err != nil {
		return explainRegistry(err, "the keys stand beside the release as the build left them")
	}
	if variables != "" && !slices.ContainsFunc(m.Inputs, func(in release.Input) bool { return in.Name == imagebuild.SignatureName }) {
		return explainSign(fmt.Errorf("%w: EC2's machines start with Secure Boot on and would refuse it", imagebuild.ErrSigning))
	}
	said, err := r.measurements(variables != "")
	if err != nil {
		return err
	}
	request := amiRequest{
		Name: "shed-" + r.digest.String()[:16], Architecture: awsNames[m.Architecture], VirtualizationType: "hvm",
		BootMode: "uefi", TpmSupport: "v2.0", ImdsSupport: "v2.0", EnaSupport: true, RootDeviceName: amiRoot, UefiData: variables,
		BlockDeviceMappings: []amiDevice{{DeviceName: amiRoot}},
	}
	request.BlockDeviceMappings[0].Ebs.VolumeType, request.BlockDeviceMappings[0].Ebs.DeleteOnTermination = "gp3", true
	if err := os.MkdirAll(output, 0o755); err != nil {
		return fmt.Errorf("making the directory: %w", err)
	}
	if err := r.copyDisk(cmd, filepath.Join(output, imagebuild.DiskName)); err != nil {
		return err
	}
	files := map[string]any{"register-image.json": request, "measurements.json": said}
	for name, content := range files {
		b, err := json.MarshalIndent(content, "", "  ")
		if err != nil {
			return fmt.Errorf("encoding %s: %w", name, err)
		}
		if err := statefile.Write(filepath.Join(output, name), 0o644, append(b, '\n')); err != nil {
			return err
		}
	}
	if variables != "" {
		if err := statefile.Write(filepath.Join(output, "uefi-data.txt"), 0o644, []byte(variables)); err != nil {
			return err
		}
	}
	return cli.PrintResult(cmd, struct {
		Output     string               `json:"output"`
		Release    attest.ReleaseDigest `json:"release"`
		SecureBoot bool                 `json:"secure_boot"`
		measurements
	}{output, r.digest, variables != "", said}, "%s: disk, register-image.json and measurements.json of release %s\n", output, r.digest)
}

// measurements are the registers of a boot, with Secure Boot where there are keys.
func (r *openedRelease) measurements(secureBoot bool) (said measurements, err error) {
	n := slices.IndexFunc(r.manifest.Boots, func(b release.Boot) bool { return b.SecureBoot == secureBoot })
	if n < 0 || r.manifest.Boots[n].SHA384["7"] == "" {
		return said, fmt.Errorf("%w: the manifest has no register 7 for this boot", imagebuild.ErrOptions)
	}
	values := r.manifest.Boots[n].SHA384
	said.Measurements.HashAlgorithm = "SHA384"
	said.Measurements.PCR4, said.Measurements.PCR7 = values["4"], values["7"]
	// The image lets nothing be added to its command line: nothing is measured.
	said.Measurements.PCR12 = strings.Repeat("00", 48)
	return said, nil
}

// variables are EC2's with the release's keys, empty where it has none.
func (r *openedRelease) variables() (string, error) {
	keys := map[string][]byte{}
	for _, in := range r.manifest.Inputs {
		if !slices.Contains(secureboot.FileNames(), in.Name) {
			continue
		}
		f, err := os.Open(filepath.Join(r.dir, in.Name))
		if err != nil {
			return "", fmt.Errorf("reading Secure Boot's keys: %w", err)
		}
		defer f.Close()
		if err := checkFile(f, release.File(in)); err != nil {
			return "", err
		}
		data := make([]byte, in.Bytes)
		if _, err := f.ReadAt(data, 0); err != nil && in.Bytes > 0 {
			return "", fmt.Errorf("reading Secure Boot's keys: %w", err)
		}
		keys[in.Name] = data
	}
	if len(keys) == 0 {
		return "", nil
	}
	return uefidata.Encode(uefidata.SecureBoot(keys["PK.esl"], keys["KEK.esl"], keys["db.esl"], keys["dbx.esl"]))
}

func (r *openedRelease) copyDisk(cmd *cobra.Command, to string) error {
	disk, err := r.disk()
	if err != nil {
		return err
	}
	defer disk.Close()
	bars := newTransferBars(cmd)
	defer bars.end()
	return statefile.Fill(to, 0o644, func(f *os.File) error {
		return copySparse(f, disk, func(done int64) { bars.tell(imagebuild.DiskName, done, r.manifest.Disk.Bytes) })
	})
}
