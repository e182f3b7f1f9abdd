# The reference tables of tests/bridge/spatial/spatstat.json, by R's spatstat; run by hand:
#
#     Rscript tests/benchmarks/spatial_reference.R > tests/bridge/spatial/spatstat.json
#
# Debian: r-cran-spatstat.explore. Three patterns (random, clustered, regular) in a rectangle and in a polygon with a hole.
# Functions are computed at every 0.01 um, since spatstat bins distances to the border, and kept at every 10 um. In polygons spatstat approximates the translation
# correction on pixels unless told not to: its exact weights are used here.

suppressMessages(library(spatstat.explore))
suppressMessages(library(spatstat.random))
set.seed(1)

rectangle <- owin(c(0, 400), c(0, 300))
holed <- owin(poly = list(
  list(x = c(0, 400, 380, 150, 20), y = c(0, 20, 300, 330, 200)),
  list(x = c(120, 200, 220, 100), y = c(210, 200, 110, 100))))
r <- seq(0, 60, by = 0.01)
kept <- seq(1001, 6001, by = 1000)

exact_trans <- function(X, Y, self) {
  D <- crossdist(X, Y)
  W <- edge.Trans(X, Y, W = Window(X), exact = TRUE)
  if (self) diag(D) <- Inf
  n <- npoints(X)
  m <- if (self) n - 1 else npoints(Y)
  sapply(r[kept], function(t) sum(W[D <= t]) * area(Window(X)) / (n * m))
}

numbers <- function(x) paste0("[", paste(sprintf("%.17g", x), collapse = ", "), "]")
entry <- function(name, x) sprintf('"%s": %s', name, numbers(x))

one <- function(name, X, Y) {
  rect <- is.rectangle(Window(X))
  K <- Kest(X, r = r, correction = c("border", "isotropic", "translate"), rmax = 60)
  XY <- superimpose(a = X, b = Y)
  C <- Kcross(XY, "a", "b", r = r, correction = c("border", "isotropic", "translate"))
  G <- Gest(X, r = r, correction = c("rs", "han"))
  GC <- Gcross(XY, "a", "b", r = r, correction = "rs")
  F <- Fest(X, r = r, correction = "rs", eps = 0.5)
  g <- pcf(X, r = r, correction = c("translate", "iso"), divisor = "r")
  lambda <- 0.001 + X$x * 1e-6
  KI <- Kinhom(X, lambda = lambda, r = r, correction = c("isotropic", "border"), renormalise = FALSE)
  cat(sprintf('"%s": {', name), paste(c(
    entry("x", c(X$x)), entry("y", c(X$y)), entry("other_x", c(Y$x)), entry("other_y", c(Y$y)),
    entry("K border", K$border[kept]), entry("K isotropic", K$iso[kept]),
    entry("K translation", if (rect) K$trans[kept] else exact_trans(X, X, TRUE)),
    entry("cross-K border", C$border[kept]), entry("cross-K isotropic", C$iso[kept]),
    entry("cross-K translation", if (rect) C$trans[kept] else exact_trans(X, Y, FALSE)),
    entry("inhomogeneous K isotropic", KI$iso[kept]), entry("inhomogeneous K border", KI$border[kept]),
    entry("G border", G$rs[kept]), entry("G hanisch", G$han[kept]), entry("cross-G border", GC$rs[kept]),
    entry("F border", F$rs[kept]), entry("g translation", g$trans[kept]), entry("g isotropic", g$iso[kept])
  ), collapse = ",\n"), "}")
}

cat("{\n")
first <- TRUE
for (shape in c("rectangle", "holed")) {
  W <- get(shape)
  patterns <- list(random = runifpoint(70, W), clustered = rThomas(6e-5, 12, 9, win = W), regular = rSSI(18, 70, W))
  for (kind in names(patterns)) {
    if (!first) cat(",\n")
    first <- FALSE
    one(paste(kind, shape), patterns[[kind]], runifpoint(50, W))
  }
}
cat("\n}\n")
