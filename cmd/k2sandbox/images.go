package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/mime"
)

// images saves what a run draws as image-1.png, image-2.svg and so on in a folder,
// and overwrites only what it wrote itself.
type images struct {
	dir   string
	last  int               // number of the newest file
	shown map[string]string // display id → its file, which updates replace
}

var extensions = map[string]string{
	"image/svg+xml":   ".svg",
	"image/png":       ".png",
	"image/jpeg":      ".jpg",
	"image/gif":       ".gif",
	"image/webp":      ".webp",
	"application/pdf": ".pdf",
}

// save returns the name of the file that it wrote, "" where there is no image.
func (i *images) save(e executor.Event) (string, error) {
	value, extension := image(e.Data)
	if extension == "" {
		return "", nil
	}
	content, err := value.Bytes()
	if err != nil {
		return "", err
	}
	if name := i.shown[e.DisplayID]; name != "" && filepath.Ext(name) == extension {
		return name, os.WriteFile(name, content, 0o666)
	}
	name, err := i.create(extension, content)
	if err == nil && e.DisplayID != "" {
		if i.shown == nil {
			i.shown = map[string]string{}
		}
		i.shown[e.DisplayID] = name
	}
	return name, err
}

func image(data mime.Bundle) (value mime.Value, extension string) {
	for _, typ := range data.Types() {
		if extension, ok := extensions[typ]; ok {
			value, _ := data.Get(typ)
			return value, extension
		}
	}
	return mime.Value{}, ""
}

func (i *images) create(extension string, content []byte) (string, error) {
	if err := os.MkdirAll(i.dir, 0o777); err != nil {
		return "", err
	}
	for {
		i.last++
		name := filepath.Join(i.dir, fmt.Sprintf("image-%d%s", i.last, extension))
		file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		_, err = file.Write(content)
		return name, errors.Join(err, file.Close())
	}
}
