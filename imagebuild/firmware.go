package imagebuild

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/imagebuild/firmware"
	"github.com/toolshed-cloud/shed/imagebuild/internal/files"
	"github.com/toolshed-cloud/shed/imagebuild/registers"
)

// The programs that a firmware is measured with, and their packages.
const (
	swtpmProgram = "swtpm"
)

// The names of inputs that depend on the architecture.
var (
	firmwareInputs = []string{platforms[board.AMD64].firmware, platforms[board.ARM64].firmware}
	qemuPrograms   = []string{qemuOf(board.AMD64), qemuOf(board.ARM64)}
)

// qemuOf is QEMU's program for an architecture.
func qemuOf(architecture string) string {
	name, _ := board.Model{Architecture: architecture}.Program()
	return name
}

// measuredAtOnce bounds the machines that are started side by side.
const measuredAtOnce = 2

// checkMeasurable refuses shapes that no board has, and a host that lacks what
// measures the firmware on them.
func (b *builder) checkMeasurable() error {
	if len(b.Shapes) == 0 {
		return nil
	}
	for _, shape := range b.Shapes {
		if err := shape.Check(); err != nil {
			return fmt.Errorf("%w: %w", ErrOptions, err)
		}
	}
	if b.stated != nil {
		return nil
	}
	qemu, qemuPackage := b.model().Program()
	for program, debian := range map[string]string{qemu: qemuPackage, swtpmProgram: "swtpm"} {
		if _, err := exec.LookPath(program); err != nil {
			return &MissingError{Path: program, Package: debian}
		}
	}
	return nil
}

func (b *builder) fetchFirmware(ctx context.Context) error {
	if len(b.Shapes) == 0 {
		return nil
	}
	file := b.FirmwarePackage
	if file == "" {
		p, err := firmware.Fetch(ctx, b.Architecture, b.Cache)
		if err != nil {
			return fmt.Errorf("fetching firmware: %w", err)
		}
		file = p.Path
	}
	digest, bytes, err := files.Digest(file)
	if err != nil {
		return fmt.Errorf("reading firmware package: %w", err)
	}
	b.record(b.platform().firmware, digest, bytes)
	if err := b.keepFile(digest, file); err != nil {
		return err
	}
	b.firmware, err = firmware.Open(ctx, file, b.model())
	if err != nil || b.keys == nil {
		return err
	}
	b.firmware.Variables, err = b.keys.Enroll(b.firmware.Variables)
	return err
}

// measureFirmware fills in what machines of each shape show. QEMU writes the
// tables that the firmware measures, so it is an input as the firmware is.
func (b *builder) measureFirmware(ctx context.Context) error {
	if b.firmware == nil {
		return nil
	}
	if b.stated != nil {
		return b.asStated()
	}
	program, debian := b.model().Program()
	qemu, err := exec.LookPath(program)
	if err != nil {
		return &MissingError{Path: program, Package: debian}
	}
	digest, bytes, err := files.Digest(qemu)
	if err != nil {
		return fmt.Errorf("reading %s: %w", program, err)
	}
	b.record(program, digest, bytes)
	shapes := slices.Clone(b.Shapes)
	slices.SortFunc(shapes, board.Shape.Compare)
	shapes = slices.Compact(shapes)
	measured := make([]firmware.Registers, len(shapes))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(measuredAtOnce)
	for i, shape := range shapes {
		g.Go(func() (err error) {
			measured[i], err = b.firmware.MeasureOnce(ctx, shape, digest, b.Cache)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return b.describeFirmware(shapes, measured)
}

func (b *builder) describeFirmware(shapes []board.Shape, measured []firmware.Registers) error {
	own := &release.Firmware{
		Code:      fileOf(FirmwareName, b.firmware.Code),
		Variables: fileOf(VariablesName, b.firmware.Variables),
		// Where it is on, the variables hold the keys.
		SecureBoot: b.firmware.Model.SecureBoot,
	}
	for i, r := range measured {
		if r.SHA256["7"] != measured[0].SHA256["7"] {
			return fmt.Errorf("%w: register 7 on %s is another than on %s", registers.ErrUnknown, shapes[i], shapes[0])
		}
		own.Shapes = append(own.Shapes, release.Shape{Shape: shapes[i], SHA256: zeroAndOne(r.SHA256), SHA384: zeroAndOne(r.SHA384)})
	}
	b.manifest.Firmware = own
	if b.keys == nil {
		b.withoutKeys = measured[0]
		return nil
	}
	// What the firmware makes of the keys is computed, and was just seen.
	one, other := registers.BeforeBoot(b.keys)
	if measured[0].SHA256["7"] != one || measured[0].SHA384["7"] != other {
		return fmt.Errorf("%w: with the keys enrolled register 7 is %s before it boots, and should be %s",
			registers.ErrUnknown, measured[0].SHA256["7"], one)
	}
	return nil
}

func zeroAndOne(values map[string]string) map[string]string {
	return map[string]string{"0": values["0"], "1": values["1"]}
}

func fileOf(name string, data []byte) release.File {
	return release.File{Name: name, SHA256: attest.Sum(data), Bytes: int64(len(data))}
}

func (b *builder) writeFirmware(context.Context) error {
	if b.firmware == nil {
		return nil
	}
	for name, data := range map[string][]byte{FirmwareName: b.firmware.Code, VariablesName: b.firmware.Variables} {
		if err := statefile.Write(filepath.Join(b.Output, name), 0o644, data); err != nil {
			return err
		}
	}
	return nil
}
