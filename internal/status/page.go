package status

import (
	"embed"
	"io/fs"
	"net/http"
)

// pageFolder holds the page. third_party/uplot is uPlot 1.6.32 as the npm registry has it, with its
// licence.
//
//go:embed page
var pageFolder embed.FS

// pagePolicy lets the page load nothing but its own files, and nobody embed it.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; " +
	"connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; " +
	"frame-ancestors 'none'"

// servePage answers with the page.
func servePage(w http.ResponseWriter, r *http.Request) {
	setPageHeader(w)
	http.ServeFileFS(w, r, pageFolder, "page/page.html")
}

func setPageHeader(w http.ResponseWriter) {
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
	w.Header().Set("Cross-Origin-Opener-Policy", "same-origin")
}

// pageFiles serves the files that the page loads. They are the same for everybody, and so need no
// token.
func pageFiles() http.Handler {
	files := http.FileServerFS(onlyFiles{pageFolder})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setPageHeader(w)
		files.ServeHTTP(w, r)
	})
}

// onlyFiles is a file system whose folders can't be listed.
type onlyFiles struct{ fs.FS }

// Open implements fs.FS.
func (f onlyFiles) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || info.IsDir() {
		file.Close()
		return nil, fs.ErrNotExist
	}
	return file, nil
}
