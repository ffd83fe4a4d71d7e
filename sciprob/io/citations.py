"""Which works to cite for a run, as BibTeX.

Solvers and problems name keys; `bibtex` turns keys into entries. A solver or problem from outside the
package can name a complete BibTeX entry (text that starts with `@`) instead of a key.
"""

from __future__ import annotations

from collections.abc import Iterable

ALWAYS = ("sciprob", "pytorch")


def bibtex(keys: Iterable[str] = ()) -> str:
    """BibTeX entries of the package, PyTorch and `keys`, each once, in this order.

    A key that is not known becomes a comment that says so, because a missing reference should
    not cost anybody a finished run.
    """
    entries = []
    for key in dict.fromkeys((*ALWAYS, *keys)):
        if key.lstrip().startswith("@"):
            entries.append(key.strip())
        elif key in ENTRIES:
            kind, fields = ENTRIES[key]
            lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
            entries.append(f"@{kind}{{{key},\n{lines}\n}}")
        else:
            entries.append(f"% no entry is known for `{key}`")
    return "\n\n".join(entries) + "\n"


def _article(author: str, title: str, journal: str, year: int, **more: str) -> tuple[str, dict[str, str]]:
    return "article", {"author": author, "title": title, "journal": journal, "year": str(year), **more}


def _book(author: str, title: str, publisher: str, year: int, **more: str) -> tuple[str, dict[str, str]]:
    return "book", {"author": author, "title": title, "publisher": publisher, "year": str(year), **more}


def _chapter(author: str, title: str, booktitle: str, year: int, **more: str) -> tuple[str, dict[str, str]]:
    return "inproceedings", {"author": author, "title": title, "booktitle": booktitle, "year": str(year), **more}


ENTRIES: dict[str, tuple[str, dict[str, str]]] = {
    "sciprob": (
        "software",
        {"author": "{The sciprob developers}", "title": "sciprob: probabilistic scientific computing"},
    ),
    "pytorch": _chapter(
        "Paszke, Adam and Gross, Sam and Massa, Francisco and Lerer, Adam and Bradbury, James and others",
        "{PyTorch}: An Imperative Style, High-Performance Deep Learning Library",
        "Advances in Neural Information Processing Systems 32",
        2019,
        pages="8024--8035",
    ),
    "gardner2018": _chapter(
        "Gardner, Jacob R. and Pleiss, Geoff and Bindel, David and Weinberger, Kilian Q. and Wilson, Andrew Gordon",
        "{GPyTorch}: Blackbox Matrix-Matrix {Gaussian} Process Inference with {GPU} Acceleration",
        "Advances in Neural Information Processing Systems 31",
        2018,
    ),
    "baratta2023": (
        "misc",
        {
            "author": "Baratta, Igor A. and Dean, Joseph P. and Dokken, J{\\o}rgen S. and Habera, Michal and "
            "Hale, Jack S. and Richardson, Chris N. and Rognes, Marie E. and Scroggs, Matthew W. and "
            "Sime, Nathan and Wells, Garth N.",
            "title": "{DOLFINx}: The next generation {FEniCS} problem solving environment",
            "year": "2023",
            "publisher": "Zenodo",
            "doi": "10.5281/zenodo.10447666",
        },
    ),
    "schaefer1996": _chapter(
        'Sch{\\"a}fer, Michael and Turek, Stefan and Durst, Franz and Krause, Egon and Rannacher, Rolf',
        "Benchmark Computations of Laminar Flow Around a Cylinder",
        "Flow Simulation with High-Performance Computers II",
        1996,
        pages="547--566",
        doi="10.1007/978-3-322-89849-4_39",
    ),
    "vadeboncoeur2023": _chapter(
        "Vadeboncoeur, Arnaud and Kazlauskaite, Ieva and Papandreou, Yanni and Cirak, Fehmi and "
        'Girolami, Mark and Akyildiz, {\\"O}mer Deniz',
        "Random Grid Neural Processes for Parametric Partial Differential Equations",
        "Proceedings of the 40th International Conference on Machine Learning",
        2023,
        pages="34759--34778",
    ),
    "amestoy2001": _article(
        "Amestoy, Patrick R. and Duff, Iain S. and L'Excellent, Jean-Yves and Koster, Jacko",
        "A Fully Asynchronous Multifrontal Solver Using Distributed Dynamic Scheduling",
        "SIAM Journal on Matrix Analysis and Applications",
        2001,
        volume="23",
        number="1",
        pages="15--41",
        doi="10.1137/S0895479899358194",
    ),
    "geuzaine2009": _article(
        "Geuzaine, Christophe and Remacle, Jean-Fran{\\c c}ois",
        "Gmsh: A {3-D} finite element mesh generator with built-in pre- and post-processing facilities",
        "International Journal for Numerical Methods in Engineering",
        2009,
        volume="79",
        number="11",
        pages="1309--1331",
        doi="10.1002/nme.2579",
    ),
    "stuart2010": _article(
        "Stuart, A. M.",
        "Inverse problems: A {Bayesian} perspective",
        "Acta Numerica",
        2010,
        volume="19",
        pages="451--559",
        doi="10.1017/S0962492910000061",
    ),
    "coxmatthews2002": _article(
        "Cox, S. M. and Matthews, P. C.",
        "Exponential Time Differencing for Stiff Systems",
        "Journal of Computational Physics",
        2002,
        volume="176",
        number="2",
        pages="430--455",
        doi="10.1006/jcph.2002.6995",
    ),
    "lindgren2011": _article(
        'Lindgren, Finn and Rue, H{\\aa}vard and Lindstr{\\"o}m, Johan',
        "An explicit link between {Gaussian} fields and {Gaussian} {Markov} random fields: "
        "the stochastic partial differential equation approach",
        "Journal of the Royal Statistical Society: Series B",
        2011,
        volume="73",
        number="4",
        pages="423--498",
        doi="10.1111/j.1467-9868.2011.00777.x",
    ),
    "roininen2014": _article(
        "Roininen, Lassi and Huttunen, Janne M. J. and Lasanen, Sari",
        "{Whittle-Mat{\\'e}rn} priors for {Bayesian} statistical inversion with applications in "
        "electrical impedance tomography",
        "Inverse Problems and Imaging",
        2014,
        volume="8",
        number="2",
        pages="561--586",
        doi="10.3934/ipi.2014.8.561",
    ),
    "daon2018": _article(
        "Daon, Yair and Stadler, Georg",
        "Mitigating the influence of the boundary on {PDE}-based covariance operators",
        "Inverse Problems and Imaging",
        2018,
        volume="12",
        number="5",
        pages="1083--1102",
        doi="10.3934/ipi.2018045",
    ),
    "cotter2013": _article(
        "Cotter, S. L. and Roberts, G. O. and Stuart, A. M. and White, D.",
        "{MCMC} Methods for Functions: Modifying Old Algorithms to Make Them Faster",
        "Statistical Science",
        2013,
        volume="28",
        number="3",
        pages="424--446",
        doi="10.1214/13-STS421",
    ),
    "rudolf2018": _article(
        'Rudolf, Daniel and Sprungk, Bj{\\"o}rn',
        "On a Generalization of the Preconditioned {Crank--Nicolson} {Metropolis} Algorithm",
        "Foundations of Computational Mathematics",
        2018,
        volume="18",
        number="2",
        pages="309--343",
        doi="10.1007/s10208-016-9340-x",
    ),
    "hoffman2014": _article(
        "Hoffman, Matthew D. and Gelman, Andrew",
        "The {No-U-Turn} Sampler: Adaptively Setting Path Lengths in {Hamiltonian} {Monte} {Carlo}",
        "Journal of Machine Learning Research",
        2014,
        volume="15",
        pages="1593--1623",
    ),
    "bingham2019": _article(
        "Bingham, Eli and Chen, Jonathan P. and Jankowiak, Martin and Obermeyer, Fritz and Pradhan, Neeraj and "
        "Karaletsos, Theofanis and Singh, Rohit and Szerlip, Paul and Horsfall, Paul and Goodman, Noah D.",
        "Pyro: Deep Universal Probabilistic Programming",
        "Journal of Machine Learning Research",
        2019,
        volume="20",
        number="28",
        pages="1--6",
    ),
    "vehtari2021": _article(
        'Vehtari, Aki and Gelman, Andrew and Simpson, Daniel and Carpenter, Bob and B{\\"u}rkner, Paul-Christian',
        "Rank-Normalization, Folding, and Localization: An Improved $\\widehat{R}$ for Assessing Convergence of "
        "{MCMC} (with Discussion)",
        "Bayesian Analysis",
        2021,
        volume="16",
        number="2",
        pages="667--718",
        doi="10.1214/20-BA1221",
    ),
    "halko2011": _article(
        "Halko, N. and Martinsson, P. G. and Tropp, J. A.",
        "Finding Structure with Randomness: Probabilistic Algorithms for Constructing Approximate "
        "Matrix Decompositions",
        "SIAM Review",
        2011,
        volume="53",
        number="2",
        pages="217--288",
        doi="10.1137/090771806",
    ),
    "buithanh2013": _article(
        "Bui-Thanh, Tan and Ghattas, Omar and Martin, James and Stadler, Georg",
        "A Computational Framework for Infinite-Dimensional {Bayesian} Inverse Problems Part {I}: "
        "The Linearized Case, with Application to Global Seismic Inversion",
        "SIAM Journal on Scientific Computing",
        2013,
        volume="35",
        number="6",
        pages="A2494--A2523",
        doi="10.1137/12089586X",
    ),
    "papandreou2010": _chapter(
        "Papandreou, George and Yuille, Alan L.",
        "Gaussian sampling by local perturbations",
        "Advances in Neural Information Processing Systems 23",
        2010,
        pages="1858--1866",
    ),
    "bardsley2014": _article(
        "Bardsley, Johnathan M. and Solonen, Antti and Haario, Heikki and Laine, Marko",
        "Randomize-Then-Optimize: A Method for Sampling from Posterior Distributions in Nonlinear Inverse Problems",
        "SIAM Journal on Scientific Computing",
        2014,
        volume="36",
        number="4",
        pages="A1895--A1910",
        doi="10.1137/140964023",
    ),
    "joseph1982": _article(
        "Joseph, Peter M.",
        "An Improved Algorithm for Reprojecting Rays through Pixel Images",
        "IEEE Transactions on Medical Imaging",
        1982,
        volume="1",
        number="3",
        pages="192--196",
        doi="10.1109/TMI.1982.4307572",
    ),
    "kak1988": _book(
        "Kak, Avinash C. and Slaney, Malcolm",
        "Principles of Computerized Tomographic Imaging",
        "IEEE Press",
        1988,
    ),
    "meaney2022": (
        "misc",
        {
            "author": "Meaney, Alexander and Silva de Moura, Fernando and Siltanen, Samuli",
            "title": "Helsinki Tomography Challenge 2022 open tomographic dataset ({HTC} 2022)",
            "year": "2022",
            "publisher": "Zenodo",
            "doi": "10.5281/zenodo.7418878",
        },
    ),
    "otsu1979": _article(
        "Otsu, Nobuyuki",
        "A Threshold Selection Method from Gray-Level Histograms",
        "IEEE Transactions on Systems, Man, and Cybernetics",
        1979,
        volume="9",
        number="1",
        pages="62--66",
        doi="10.1109/TSMC.1979.4310076",
    ),
    "matthews1975": _article(
        "Matthews, B. W.",
        "Comparison of the predicted and observed secondary structure of {T4} phage lysozyme",
        "Biochimica et Biophysica Acta (BBA) - Protein Structure",
        1975,
        volume="405",
        number="2",
        pages="442--451",
        doi="10.1016/0005-2795(75)90109-9",
    ),
    "gneiting2007": _article(
        "Gneiting, Tilmann and Raftery, Adrian E.",
        "Strictly Proper Scoring Rules, Prediction, and Estimation",
        "Journal of the American Statistical Association",
        2007,
        volume="102",
        number="477",
        pages="359--378",
        doi="10.1198/016214506000001437",
    ),
    "fang2024": (
        "inproceedings",
        {
            "author": "Fang, Shikai and Cooley, Madison and Long, Da and Li, Shibo and Kirby, Robert M. "
            "and Zhe, Shandian",
            "title": "Solving High Frequency and Multi-Scale {PDEs} with {Gaussian} Processes",
            "booktitle": "International Conference on Learning Representations",
            "year": "2024",
            "eprint": "2311.04465",
            "archiveprefix": "arXiv",
        },
    ),
    "chen2021": _article(
        "Chen, Yifan and Hosseini, Bamdad and Owhadi, Houman and Stuart, Andrew M.",
        "Solving and learning nonlinear {PDEs} with {Gaussian} processes",
        "Journal of Computational Physics",
        2021,
        volume="447",
        pages="110668",
        doi="10.1016/j.jcp.2021.110668",
    ),
    "cockayne2017": (
        "inproceedings",
        {
            "author": "Cockayne, Jon and Oates, Chris and Sullivan, Tim and Girolami, Mark",
            "title": "Probabilistic numerical methods for {PDE}-constrained {Bayesian} inverse problems",
            "booktitle": "AIP Conference Proceedings",
            "year": "2017",
            "volume": "1853",
            "pages": "060001",
            "doi": "10.1063/1.4985359",
        },
    ),
    "mandelbrot1968": _article(
        "Mandelbrot, Benoit B. and Van Ness, John W.",
        "Fractional {Brownian} motions, fractional noises and applications",
        "SIAM Review",
        1968,
        volume="10",
        pages="422--437",
        doi="10.1137/1010093",
    ),
    "beran1994": _book("Beran, Jan", "Statistics for Long-Memory Processes", "Chapman and Hall", 1994),
    "garman1980": _article(
        "Garman, Mark B. and Klass, Michael J.",
        "On the Estimation of Security Price Volatilities from Historical Data",
        "Journal of Business",
        1980,
        volume="53",
        pages="67--78",
    ),
    "gatheral2018": _article(
        "Gatheral, Jim and Jaisson, Thibault and Rosenbaum, Mathieu",
        "Volatility is rough",
        "Quantitative Finance",
        2018,
        volume="18",
        pages="933--949",
        doi="10.1080/14697688.2017.1393551",
    ),
    "daems2024": _chapter(
        "Daems, Rembert and Opper, Manfred and Crevecoeur, Guillaume and Birdal, Tolga",
        "Variational Inference for {SDEs} Driven by Fractional Noise",
        "International Conference on Learning Representations",
        2024,
    ),
    "sarkka2021": _article(
        "Särkkä, Simo and García-Fernández, Ángel F.",
        "Temporal Parallelization of {Bayesian} Smoothers",
        "IEEE Transactions on Automatic Control",
        2021,
        volume="66",
        pages="299--306",
        doi="10.1109/TAC.2020.2976316",
    ),
    "rauch1965": _article(
        "Rauch, Herbert E. and Tung, F. and Striebel, C. T.",
        "Maximum likelihood estimates of linear dynamic systems",
        "AIAA Journal",
        1965,
        volume="3",
        pages="1445--1450",
        doi="10.2514/3.3166",
    ),
    "chung2023": _chapter(
        "Chung, Hyungjin and Kim, Jeongsol and McCann, Michael T. and Klasky, Marc L. and Ye, Jong Chul",
        "Diffusion Posterior Sampling for General Noisy Inverse Problems",
        "International Conference on Learning Representations",
        2023,
    ),
    "song2023": _chapter(
        "Song, Jiaming and Vahdat, Arash and Mardani, Morteza and Kautz, Jan",
        "Pseudoinverse-Guided Diffusion Models for Inverse Problems",
        "International Conference on Learning Representations",
        2023,
    ),
    "zhang2025daps": _chapter(
        "Zhang, Bingliang and Chu, Wenda and Berner, Julius and Meng, Chenlin and Anandkumar, Anima and Song, Yang",
        "Improving Diffusion Inverse Problem Solving with Decoupled Noise Annealing",
        "Conference on Computer Vision and Pattern Recognition",
        2025,
    ),
    "vono2019": _article(
        "Vono, Maxime and Dobigeon, Nicolas and Chainais, Pierre",
        "Split-and-Augmented {Gibbs} Sampler---Application to Large-Scale Inference Problems",
        "IEEE Transactions on Signal Processing",
        2019,
        volume="67",
        pages="1648--1661",
        doi="10.1109/TSP.2019.2894825",
    ),
    "wu2024pnpdm": _chapter(
        "Wu, Zihui and Sun, Yu and Chen, Yifan and Zhang, Bingliang and Yue, Yisong and Bouman, Katherine L.",
        "Principled Probabilistic Imaging using Diffusion Models as Plug-and-Play Priors",
        "Advances in Neural Information Processing Systems 37",
        2024,
    ),
    "mardani2024": _chapter(
        "Mardani, Morteza and Song, Jiaming and Kautz, Jan and Vahdat, Arash",
        "A Variational Perspective on Solving Inverse Problems with Diffusion Models",
        "International Conference on Learning Representations",
        2024,
    ),
    "chen2025afdps": (
        "unpublished",
        {
            "author": "Chen, Haoxuan and Ren, Yinuo and Min, Martin Renqiang and Ying, Lexing and Izzo, Zachary",
            "title": "Solving Inverse Problems via Diffusion-Based Priors: "
            "An Approximation-Free Ensemble Sampling Approach",
            "note": "arXiv 2506.03979",
            "year": "2025",
            "eprint": "2506.03979",
            "archiveprefix": "arXiv",
        },
    ),
    "wu2023tds": _chapter(
        "Wu, Luhuan and Trippe, Brian L. and Naesseth, Christian A. and Blei, David M. and Cunningham, John P.",
        "Practical and Asymptotically Exact Conditional Sampling in Diffusion Models",
        "Advances in Neural Information Processing Systems 36",
        2023,
    ),
}
