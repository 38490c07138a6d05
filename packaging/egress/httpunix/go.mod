module github.com/tv42/httpunix

go 1.26.5
