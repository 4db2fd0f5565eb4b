package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// folder is what the sources of one folder say. Generated files count only where they import.
type folder struct {
	path      string // below the root, with slashes
	comment   string // the package's
	declared  []string
	imports   []use // of the program
	tests     []use // of its tests
	inits     []string
	generated bool // wholly
}

// use is an import and the file it stands in.
type use struct{ path, file string }

// read reads the sources of the module at root; modules inside it are none of its folders.
func read(root string) ([]folder, error) {
	var folders []folder
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		if name != root && foreign(name, entry.Name()) {
			return filepath.SkipDir
		}
		inside, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		f, err := readFolder(root, filepath.ToSlash(inside))
		folders = append(folders, f)
		return err
	})
	return folders, err
}

func foreign(name, base string) bool {
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		return true
	}
	return strings.HasPrefix(base, ".") || base == "testdata" || base == "node_modules" || base == "bin"
}

func readFolder(root, inside string) (folder, error) {
	f := folder{path: inside, generated: true}
	files, err := filepath.Glob(filepath.Join(root, inside, "*.go"))
	if err != nil {
		return f, err
	}
	for _, name := range files {
		source, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return f, err
		}
		f.take(path.Join(inside, filepath.Base(name)), source)
	}
	return f, nil
}

func (f *folder) take(name string, source *ast.File) {
	test := strings.HasSuffix(name, "_test.go")
	for _, spec := range source.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		if test {
			f.tests = append(f.tests, use{imported, name})
		} else {
			f.imports = append(f.imports, use{imported, name})
		}
	}
	// A program that is run by go generate is no part of its folder's package.
	if test || ignored(source) {
		return
	}
	generated := ast.IsGenerated(source)
	f.generated = f.generated && generated
	if source.Doc != nil && !generated {
		f.comment += source.Doc.Text()
	}
	for _, declaration := range source.Decls {
		f.declare(name, declaration, generated)
	}
}

func ignored(source *ast.File) bool {
	return slices.ContainsFunc(source.Comments, func(group *ast.CommentGroup) bool {
		return group.Pos() < source.Package && strings.HasPrefix(group.List[0].Text, "//go:build ignore")
	})
}

func (f *folder) declare(name string, declaration ast.Decl, generated bool) {
	switch d := declaration.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil && d.Name.Name == "init" && !generated {
			f.inits = append(f.inits, name)
		}
		f.declared = append(f.declared, d.Name.Name)
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				f.declared = append(f.declared, s.Name.Name)
			case *ast.ValueSpec:
				for _, name := range s.Names {
					f.declared = append(f.declared, name.Name)
				}
			}
		}
	}
}
