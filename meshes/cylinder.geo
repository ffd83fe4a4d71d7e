// Channel [0, 2.2] x [0, 0.41] around a disc of radius 0.05 at (0.2, 0.2): the geometry of the benchmark of
// Schaefer and Turek (1996). `size` is the length of an edge far from the disc; on the rim it is a fifth.
DefineConstant[ size = 0.075 ];
Mesh.MshFileVersion = 2.2;
Mesh.Algorithm = 6;

Point(1) = {0, 0, 0, 0.6 * size};
Point(2) = {2.2, 0, 0, size};
Point(3) = {2.2, 0.41, 0, size};
Point(4) = {0, 0.41, 0, 0.6 * size};
Line(1) = {1, 2};
Line(2) = {2, 3};
Line(3) = {3, 4};
Line(4) = {4, 1};

Point(5) = {0.2, 0.2, 0};
Point(6) = {0.25, 0.2, 0, 0.2 * size};
Point(7) = {0.2, 0.25, 0, 0.2 * size};
Point(8) = {0.15, 0.2, 0, 0.2 * size};
Point(9) = {0.2, 0.15, 0, 0.2 * size};
Circle(5) = {6, 5, 7};
Circle(6) = {7, 5, 8};
Circle(7) = {8, 5, 9};
Circle(8) = {9, 5, 6};

Curve Loop(1) = {1, 2, 3, 4};
Curve Loop(2) = {5, 6, 7, 8};
Plane Surface(1) = {1, 2};

Physical Surface("domain", 1) = {1};
Physical Curve("inlet", 2) = {4};
Physical Curve("outlet", 3) = {2};
Physical Curve("walls", 4) = {1, 3};
Physical Curve("cylinder", 5) = {5, 6, 7, 8};
