// The unit square without a disc of radius 0.15 around (0.6, 0.45). Sides, the rim of the hole and
// the domain are named; `size` is the length of an edge.
DefineConstant[ size = 0.044 ];
Mesh.MshFileVersion = 2.2;
Mesh.Algorithm = 6;

Point(1) = {0, 0, 0, size};
Point(2) = {1, 0, 0, size};
Point(3) = {1, 1, 0, size};
Point(4) = {0, 1, 0, size};
Line(1) = {1, 2};
Line(2) = {2, 3};
Line(3) = {3, 4};
Line(4) = {4, 1};

Point(5) = {0.6, 0.45, 0};
Point(6) = {0.75, 0.45, 0, size};
Point(7) = {0.6, 0.6, 0, size};
Point(8) = {0.45, 0.45, 0, size};
Point(9) = {0.6, 0.3, 0, size};
Circle(5) = {6, 5, 7};
Circle(6) = {7, 5, 8};
Circle(7) = {8, 5, 9};
Circle(8) = {9, 5, 6};

Curve Loop(1) = {1, 2, 3, 4};
Curve Loop(2) = {5, 6, 7, 8};
Plane Surface(1) = {1, 2};

Physical Surface("domain", 1) = {1};
Physical Curve("left", 2) = {4};
Physical Curve("right", 3) = {2};
Physical Curve("bottom", 4) = {1};
Physical Curve("top", 5) = {3};
Physical Curve("hole", 6) = {5, 6, 7, 8};
